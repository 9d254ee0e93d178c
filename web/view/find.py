"""The search over names and reasons."""

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse

from db.questions.search import search
from web.view.pages import Asked, further, page

router = APIRouter()


@router.get("/search")
def find(request: Request, session: Asked, text: str = "", before: int | None = None) -> HTMLResponse:
    """What has the words; an empty form where there are none."""
    if not text.strip():
        return page(request, "search.html", text="", found=None, older=None)
    found = search(session, text=text, limit=50, before=before)
    older = further(request, before=found["next_before"]) if found["next_before"] else None
    return page(request, "search.html", text=text, found=found, older=older)
