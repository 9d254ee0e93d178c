"""The first page: what runs now, the latest nights and the latest runs."""

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse

from db.questions.lists import list_nights
from db.questions.runs import list_runs
from web.view.live import standing
from web.view.pages import Asked, page, settings_of

router = APIRouter()


@router.get("/")
def home(request: Request, session: Asked) -> HTMLResponse:
    """What runs now, and what came last."""
    return page(
        request,
        "home.html",
        running=standing(settings_of(request)),
        nights=list_nights(session, limit=5)["nights"],
        runs=list_runs(session, limit=10).runs,
    )
