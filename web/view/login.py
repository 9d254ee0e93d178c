"""The form that asks a browser for the token, and gives it the cookie in its place."""

from urllib.parse import parse_qs

from fastapi import APIRouter, Request, Response
from fastapi.responses import HTMLResponse, PlainTextResponse, RedirectResponse

from web.view.guard import COOKIE, Guard
from web.view.pages import page

router = APIRouter()
LONGEST_FORM = 4096


@router.get("/login")
def form(request: Request) -> HTMLResponse:
    """The form that asks for the token."""
    return page(request, "login.html", wrong=False)


@router.post("/login")
async def enter(request: Request) -> Response:
    """Give a browser that shows the token the cookie."""
    guard: Guard = request.app.state.guard
    body = b""
    async for piece in request.stream():
        body += piece
        if len(body) > LONGEST_FORM:
            return PlainTextResponse("Too long.", status_code=413)
    given = parse_qs(body.decode("utf-8", "replace")).get("token", [""])[0].strip()
    if not guard.knows(given):
        return page(request, "login.html", status=403, wrong=True)
    response = RedirectResponse("/", status_code=303)
    # Only shown to this site, not to scripts, and gone with the browser's session.
    response.set_cookie(COOKIE, guard.cookie, httponly=True, samesite="strict", secure=request.url.scheme == "https")
    return response
