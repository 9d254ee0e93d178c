"""Nights: all of them, and one with its targets in their order."""

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse

from db.questions.lists import list_nights
from db.questions.night import night_story
from db.questions.stopped import why_stopped
from web.report.text import byte_size, duration
from web.view.pages import Asked, further, page, settings_of

router = APIRouter()


@router.get("/nights")
def nights(request: Request, session: Asked, before: int | None = None) -> HTMLResponse:
    """Nights, newest first."""
    found = list_nights(session, limit=30, before=before)
    older = further(request, before=found["next_before"]) if found["next_before"] else None
    return page(request, "nights.html", nights=found["nights"], older=older)


@router.get("/nights/{name}")
def night(request: Request, session: Asked, name: str) -> HTMLResponse:
    """One night: why it ended, its targets with their runs, predicted against actual."""
    story = night_story(session, name=None if name == "latest" else name)
    cost = story["cost"]
    said = {"seconds": duration, "bytes": byte_size}
    return page(
        request,
        "night_view.html",
        night=story,
        why=why_stopped(session, night=story["name"]),
        costs=[
            (what, say(cost[key]["predicted"]), say(cost[key]["actual"]), cost[key]["runs"])
            for what, (key, say) in zip(("Time of the scans", "Data"), said.items(), strict=True)
        ],
        report=(settings_of(request).reports_folder / f"{story['name']}.html").is_file(),
    )
