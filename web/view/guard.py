"""Who may read the pages: this machine alone, or whoever shows the token; who may call a hook; what a page may load."""

import hmac
import re
from dataclasses import dataclass
from hashlib import sha256
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import HTTPConnection
from starlette.responses import JSONResponse, PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from stem4d.errors import BadInput
from stem4d.names import NAME_PATTERN

LOOPBACK = ("127.0.0.1", "localhost", "[::1]")
LEAST_TOKEN = 20
"""Characters; 20 random letters and digits are not to be guessed."""
LONGEST_FILE_BYTES = 4096
COOKIE = "nightbeam"
OPEN_PATHS = ("/login", "/static/view.css")
HOOKS = "/hooks"
_HOOK = re.compile(f"{HOOKS}/{NAME_PATTERN.strip('^$')}".encode())
_NAME = re.compile(r"(?P<name>\[[0-9a-f:.]+\]|[a-z0-9._-]+)(?::[0-9]{1,5})?")
_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; img-src 'self' data:; style-src 'self' 'unsafe-inline'; script-src 'self'; "
        "connect-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    # Not "no-referrer": the browser would send our own form with an Origin of "null".
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-store",
}


@dataclass(frozen=True)
class Guard:
    """By which names the server may be asked, and the token that it wants."""

    names: tuple[str, ...] = LOOPBACK
    token: str | None = None
    any_own_address: bool = False
    """Whether it listens on every address of this machine, and may be asked by the one that a connection came to."""
    hook_token: str | None = None
    """What a program shows that calls a hook, on this machine too; without it there are no hooks."""

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

    def admits(self, request: HTTPConnection) -> bool:
        """Whether a request shows the token, in its header or as the cookie of the form."""
        if self.token is None:
            return True
        scheme, _, given = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer" and self.knows(given.strip()):
            return True
        return hmac.compare_digest(request.cookies.get(COOKIE, "").encode(), self.cookie.encode())

    def admits_to_hooks(self, headers: Headers) -> bool:
        """Whether a request shows the token of the hooks, once; what opens the pages opens no hook."""
        given = headers.getlist("authorization")
        scheme, _, shown = (given[0] if len(given) == 1 else "").partition(" ")
        if self.hook_token is None or scheme.lower() != "bearer":
            return False
        return hmac.compare_digest(shown.strip().encode(), self.hook_token.encode())

    def knows(self, given: str) -> bool:
        """Whether a text is the token, in a time that does not tell how much of it is right."""
        return self.token is not None and hmac.compare_digest(given.encode(), self.token.encode())

    def is_called(self, host: str, came_to: str | None) -> bool:
        """Whether a Host header names this server; ``came_to`` is our end of the connection.

        A page elsewhere can make its own name lead here, and would read what is here: so only known names are good,
        and addresses, which are no names.
        """
        found = _NAME.fullmatch(host)
        if found is None:
            return False
        name = found["name"]
        if name in self.names:
            return True
        asked, ours = _address(name.strip("[]")), _address(came_to or "")
        return self.any_own_address and asked is not None and asked == ours


def guard_for(host: str, token: str | None, names: tuple[str, ...] = ()) -> Guard:
    """The guard of a server that listens on a host; ``names`` are others that lead to it, as a proxy's.

    Raises
    ------
    BadInput
        For a host beyond this machine without a token, a token that could be guessed, or a name that is none.
    """
    if token is not None:
        refuse_guessable("web_token", token)
    if not is_loopback(host) and token is None:
        raise BadInput(
            field="--host",
            value=host,
            limit="only this machine (127.0.0.1) is served without a token",
            remedy="Set NIGHTBEAM_WEB_TOKEN or give --token-file, or leave --host out and use an SSH tunnel",
        )
    for name in names:
        found = _NAME.fullmatch(name.lower())
        if found is None or found["name"] != name.lower():
            limit = "a host's name or address, without scheme, port or path"
            raise BadInput(field="--name", value=name, limit=limit, remedy="as in --name stem.lab.example")
    address = _address(host)
    everywhere = not host or (address is not None and address.is_unspecified)
    own = f"[{host}]" if ":" in host else host
    mine = () if everywhere else (own.lower(),)
    return Guard((*LOOPBACK, *mine, *(name.lower() for name in names)), token, everywhere)


def refuse_guessable(field: str, token: str) -> None:
    """Raise ``BadInput``, without the token in it, for one that could be guessed or not typed."""
    if len(token) < LEAST_TOKEN or not token.isascii() or not token.isprintable():
        raise BadInput(
            field=field,
            value=f"{len(token)} characters",
            limit=f"at least {LEAST_TOKEN} printable ASCII characters",
            remedy="python3 -c 'import secrets; print(secrets.token_urlsafe(24))' makes one",
        )


def token_of(path: Path) -> str:
    """The token that a file holds, which only its owner may read.

    Raises
    ------
    BadInput
        For a file that cannot be read, that others can read, or that is too long for a token.
    """
    try:
        with path.open("rb") as file:
            mode = path.stat().st_mode
            text = file.read(LONGEST_FILE_BYTES + 1)
    except OSError as error:
        limit = f"cannot be read: {error.strerror}"
        raise BadInput(field="--token-file", value=str(path), limit=limit, remedy="Name another") from None
    if mode & 0o077:
        remedy = f"chmod 600 {path}"
        raise BadInput(field="--token-file", value=str(path), limit="other users can read it", remedy=remedy)
    if len(text) > LONGEST_FILE_BYTES:
        limit = f"at most {LONGEST_FILE_BYTES} bytes: a token and nothing else"
        raise BadInput(field="--token-file", value=str(path), limit=limit, remedy="Name another")
    # What is no ASCII is refused with the token's other rules, and is not shown.
    return text.decode("utf-8", "replace").strip()


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches a host."""
    address = _address(host)
    return host == "localhost" if address is None else address.is_loopback


def _address(text: str) -> IPv4Address | IPv6Address | None:
    try:
        address = ip_address(text)
    except ValueError:
        return None
    return (isinstance(address, IPv6Address) and address.ipv4_mapped) or address


class Guarded:
    """Before everything else: refuses what is not for this server, and says to browsers what its pages may do."""

    def __init__(self, app: ASGIApp, guard: Guard) -> None:
        self._app, self._guard = app, guard

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or hand it on."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":
            await send({"type": "websocket.close", "code": 1008})
            return
        begun = False

        async def with_headers(message: Message) -> None:
            nonlocal begun
            if message["type"] == "http.response.start":
                begun = True
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        if refusal := _refusal(HTTPConnection(scope), self._guard):
            await refusal(scope, receive, with_headers)
            return
        # Routes answer GET; of a HEAD the server leaves the body out.
        following = {**scope, "method": "GET"} if scope["method"] == "HEAD" else scope
        try:
            await self._app(following, receive, with_headers)
        except Exception:
            # A bug of ours, which the server's log tells; who asked gets no part of it.
            if not begun:
                await PlainTextResponse("This page failed.", status_code=500)(scope, receive, with_headers)
            raise


def _refusal(request: HTTPConnection, guard: Guard) -> Response | None:
    host = single(request.headers, "host")
    if not guard.is_called(host, (request.scope.get("server") or (None,))[0]):
        words = "This server is not asked by that name (Host); nightbeam serve --name NAME allows one."
        return PlainTextResponse(words, status_code=400)
    path, method = request.scope["path"], request.scope["method"]
    if path == HOOKS or path.startswith(f"{HOOKS}/"):
        return _refusal_of_hook(request, guard)
    if method not in ("GET", "HEAD") and not (method == "POST" and path == "/login"):
        return PlainTextResponse("These pages only read.", status_code=405, headers={"Allow": "GET, HEAD"})
    if _is_from_elsewhere(request.headers, host, method):
        return PlainTextResponse("Not from another site (Origin, Sec-Fetch-Site).", status_code=403)
    if path in OPEN_PATHS or guard.admits(request):
        return None
    if "text/html" in request.headers.get("accept", ""):
        return RedirectResponse("/login", status_code=303)
    return PlainTextResponse("Show the token.", status_code=401, headers={"WWW-Authenticate": "Bearer"})


def _refusal_of_hook(request: HTTPConnection, guard: Guard) -> Response | None:
    """Why a hook is not called: only a program calls one, which shows their token and is no page in a browser."""
    if guard.hook_token is None:
        return JSONResponse({"error": "there are no hooks here"}, status_code=404)
    if request.scope["method"] != "POST":
        return JSONResponse({"error": "a hook is called by POST"}, status_code=405, headers={"Allow": "POST"})
    # A browser sends one of these with every POST, whosever page it shows; programs send neither.
    if "origin" in request.headers or "sec-fetch-site" in request.headers:
        return JSONResponse({"error": "not from a page in a browser (Origin, Sec-Fetch-Site)"}, status_code=403)
    if not guard.admits_to_hooks(request.headers):
        words = {"error": "show the token of the hooks"}
        return JSONResponse(words, status_code=401, headers={"WWW-Authenticate": "Bearer"})
    # As it was sent: nothing in it is decoded, resolved or led on.
    if not _HOOK.fullmatch(request.scope.get("raw_path") or b""):
        return JSONResponse({"error": "there is no such hook"}, status_code=404)
    return None


def single(headers: Headers, name: str) -> str:
    """A header that is given once; empty otherwise: two of them are read differently by different programs."""
    given = headers.getlist(name)
    return given[0].lower() if len(given) == 1 else ""


def _is_from_elsewhere(headers: Headers, host: str, method: str) -> bool:
    """Whether a page of another site asks. A person may follow a link from there; nothing else comes from there."""
    if "origin" in headers and single(headers, "origin") not in (f"http://{host}", f"https://{host}"):
        return True
    site, mode, goal = (headers.get(f"sec-fetch-{name}", "").lower() for name in ("site", "mode", "dest"))
    followed = method != "POST" and mode == "navigate" and goal in ("document", "")
    return site not in ("", "same-origin", "none") and not followed
