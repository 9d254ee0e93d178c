"""The application behind `nightbeam serve`: its pages, what is answered where there is none, and the hooks.

The pages only read.
"""

from dataclasses import replace
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse
from starlette.exceptions import HTTPException

from db.errors import DatabaseAway, DatabaseDamaged
from stem4d.errors import BadInput, NightbeamError
from storage.settings import Settings
from web.view import calibrations, compare, find, home, live, login, nights, run, runs, samples
from web.view.guard import Guard, Guarded
from web.view.hooks import Hooks, Submit, hook_token
from web.view.hooks import router as hook_router
from web.view.pages import page

if TYPE_CHECKING:
    from db.engine import Engine

UNKNOWN = ("run", "night", "sample", "calibration", "calibration_id", "picture", "instrument")
"""Fields of a `BadInput` that says that there is no such thing."""


def make_app(settings: Settings, engine: "Engine", guard: Guard | None = None, hooks: Submit | None = None) -> FastAPI:
    """The pages over a database; ``guard`` says who may read them, everyone on this machine where absent.

    ``hooks`` starts what the hooks of the settings stand for; without it, and without their token, there are none.

    Raises
    ------
    BadInput
        For a token of the hooks that could be guessed, or that is the pages' own.
    """
    app = FastAPI(title="nightbeam", docs_url=None, redoc_url=None, openapi_url=None)
    guard = guard or Guard()
    if hooks is not None and settings.hooks:
        guard = replace(guard, hook_token=hook_token(settings, guard))
        app.state.hooks = Hooks({hook.name: hook for hook in settings.hooks}, hooks)
    app.state.settings, app.state.engine, app.state.guard = settings, engine, guard
    for each in (home, nights, runs, run, compare, calibrations, samples, find, live, login):
        app.include_router(each.router)
    app.include_router(hook_router)
    app.add_api_route("/static/{name}", _static, methods=["GET"])
    app.add_exception_handler(NightbeamError, _refused)
    app.add_exception_handler(HTTPException, _no_page)
    app.add_exception_handler(RequestValidationError, _unreadable)
    app.add_middleware(Guarded, guard=app.state.guard)
    return app


@cache
def _style() -> str:
    parts = (files("web.report") / "templates" / "style.css", files("web.view") / "templates" / "view.css")
    return "\n".join(part.read_text(encoding="utf-8") for part in parts)


def _static(name: str) -> Response:
    if name == "view.css":
        return Response(_style(), media_type="text/css", headers={"Cache-Control": "max-age=3600"})
    if name == "live.js":
        text = (files("web.view") / "templates" / "live.js").read_text(encoding="utf-8")
        return Response(text, media_type="text/javascript", headers={"Cache-Control": "max-age=3600"})
    raise HTTPException(404)


def _refused(request: Request, error: Exception) -> HTMLResponse:
    """What a person asked for and cannot have, in words."""
    if isinstance(error, DatabaseAway | DatabaseDamaged):
        return page(request, "trouble.html", status=503, title="The record cannot be read now", words=str(error))
    if isinstance(error, BadInput) and error.field in UNKNOWN:
        return page(request, "trouble.html", status=404, title="Not in the record", words=str(error))
    return page(request, "trouble.html", status=400, title="This cannot be asked", words=str(error))


def _no_page(request: Request, error: Exception) -> HTMLResponse:
    assert isinstance(error, HTTPException)
    words = {404: "There is no such page.", 405: "These pages only read."}.get(error.status_code, str(error.detail))
    return page(request, "trouble.html", status=error.status_code, title="No page", words=words)


def _unreadable(request: Request, error: Exception) -> HTMLResponse:
    assert isinstance(error, RequestValidationError)
    words = "; ".join(f"{each['loc'][-1]}: {each['msg']}" for each in error.errors())
    return page(request, "trouble.html", status=400, title="This cannot be asked", words=words)
