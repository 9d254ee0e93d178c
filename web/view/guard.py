"""Who may read the pages: this machine alone, or whoever shows the token; and what a page may load."""

import hmac
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from hashlib import sha256
from ipaddress import ip_address
from urllib.parse import parse_qs, urlsplit

from fastapi import APIRouter, Request, Response
from fastapi.responses import HTMLResponse, RedirectResponse

from stem4d.errors import BadInput
from web.view.pages import page

LOOPBACK = ("127.0.0.1", "localhost", "[::1]")
LEAST_TOKEN = 20
"""Characters; 20 random letters and digits are not to be guessed."""
COOKIE = "nightbeam"
LONGEST_FORM = 4096
OPEN_PATHS = ("/login", "/static/view.css")
_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; img-src 'self' data:; style-src 'self' 'unsafe-inline'; script-src 'self'; "
        "connect-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-store",
}

login = APIRouter()


@dataclass(frozen=True)
class Guard:
    """By which names the server may be asked, and the token that it wants."""

    names: tuple[str, ...] = LOOPBACK
    token: str | None = None

    def __repr__(self) -> str:
        # A token has no place in a log.
        return f"Guard(names={self.names})"

    @property
    def needs_token(self) -> bool:
        """Whether somebody has to log in."""
        return self.token is not None

    @property
    def cookie(self) -> str:
        """What a browser keeps: not the token, and nothing that gives it."""
        return hmac.new((self.token or "").encode(), b"nightbeam web view", sha256).hexdigest()

    def admits(self, request: Request) -> bool:
        """Whether a request shows the token, in its header or as the cookie of the form."""
        if self.token is None:
            return True
        scheme, _, given = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer" and self.knows(given.strip()):
            return True
        return hmac.compare_digest(request.cookies.get(COOKIE, "").encode(), self.cookie.encode())

    def knows(self, given: str) -> bool:
        """Whether a text is the token, in a time that does not tell how much of it is right."""
        return hmac.compare_digest(given.encode(), (self.token or "").encode()) and self.token is not None


def guard_for(host: str, token: str | None, names: tuple[str, ...] = ()) -> Guard:
    """The guard of a server that listens on a host.

    Raises
    ------
    BadInput
        For a host beyond this machine without a token, or a token that could be guessed.
    """
    if token is not None and (len(token) < LEAST_TOKEN or not token.isascii() or not token.isprintable()):
        raise BadInput(
            field="web_token",
            value=f"{len(token)} characters",
            limit=f"at least {LEAST_TOKEN} printable ASCII characters",
            remedy="python3 -c 'import secrets; print(secrets.token_urlsafe(24))' makes one",
        )
    if not is_loopback(host) and token is None:
        raise BadInput(
            field="--host",
            value=host,
            limit="only this machine (127.0.0.1) is served without a token",
            remedy="Set NIGHTBEAM_WEB_TOKEN, or leave --host out and use an SSH tunnel",
        )
    own = f"[{host}]" if ":" in host else host
    anywhere = host in ("0.0.0.0", "::")  # noqa: S104 - it is compared with, not bound
    return Guard((*LOOPBACK, *(() if anywhere else (own.lower(),)), *(name.lower() for name in names)), token)


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches a host."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


async def guarded(request: Request, following: Callable[[Request], Awaitable[Response]]) -> Response:
    """Refuse what is not for this server, and say to browsers what its pages may do."""
    guard: Guard = request.app.state.guard
    response = _refusal(request, guard) or await following(request)
    for name, value in _HEADERS.items():
        response.headers.setdefault(name, value)
    return response


def _refusal(request: Request, guard: Guard) -> Response | None:
    host = request.headers.get("host", "").lower()
    # Another name for this address is how a page elsewhere would read what is here.
    if host.rpartition(":")[0] not in guard.names and host not in guard.names:
        return Response("This server is not asked by that name (Host).", status_code=400, media_type="text/plain")
    path = request.url.path
    if request.method not in ("GET", "HEAD") and not (request.method == "POST" and path == "/login"):
        return Response("These pages only read.", status_code=405, media_type="text/plain")
    origin = request.headers.get("origin")
    foreign = origin is not None and urlsplit(origin).netloc.lower() != host
    site, mode = (request.headers.get(f"sec-fetch-{name}", "") for name in ("site", "mode"))
    # A link from elsewhere may lead here; nothing else may be loaded from there.
    led = request.method in ("GET", "HEAD") and mode == "navigate"
    if foreign or (site in ("cross-site", "same-site") and not led):
        return Response("Not from another site (Origin).", status_code=403, media_type="text/plain")
    if path in OPEN_PATHS or guard.admits(request):
        return None
    if "text/html" in request.headers.get("accept", ""):
        return RedirectResponse("/login", status_code=303)
    return Response("Show the token.", status_code=401, headers={"WWW-Authenticate": "Bearer"}, media_type="text/plain")


@login.get("/login")
def form(request: Request) -> HTMLResponse:
    """The form that asks for the token."""
    return page(request, "login.html", wrong=False)


@login.post("/login")
async def enter(request: Request) -> Response:
    """Give a browser that shows the token the cookie."""
    guard: Guard = request.app.state.guard
    body = b""
    async for piece in request.stream():
        body += piece
        if len(body) > LONGEST_FORM:
            return Response("Too long.", status_code=413, media_type="text/plain")
    given = parse_qs(body.decode("utf-8", "replace")).get("token", [""])[0].strip()
    if not guard.knows(given):
        return page(request, "login.html", status=403, wrong=True)
    response = RedirectResponse("/", status_code=303)
    response.set_cookie(COOKIE, guard.cookie, httponly=True, samesite="strict", secure=request.url.scheme == "https")
    return response
