"""Calibrations: over time for each kind, and one with all that rests on it."""

from datetime import datetime
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import HTMLResponse

from db.clock import utc_now
from db.questions.affected import affected_by
from db.questions.lists import calibration_history, instruments
from stem4d.errors import BadInput
from web.report.measured_words import title_of
from web.report.parts import standing_words, value_lines
from web.report.tables import chip
from web.view.history_plot import figures_of, history_svg
from web.view.pages import Asked, further, page

router = APIRouter()
MOST = 200
"""Points of a plot: the newest."""


@router.get("/calibrations")
def calibrations(
    request: Request, session: Asked, instrument: str = "", kind: str = "", before: int | None = None
) -> HTMLResponse:
    """Instruments with the kinds of their calibrations; of one kind all, with a plot of each figure over time."""
    known = instruments(session)
    if not instrument and not kind:
        return page(
            request, "calibrations_of_all.html", known=[(name, _titled(kinds)) for name, kinds in known.items()]
        )
    if instrument not in known:
        raise BadInput(field="instrument", value=instrument, limit=f"not in the record; known are {', '.join(known)}")
    if kind not in known[instrument]:
        limit = f"of {instrument} there are {', '.join(known[instrument]) or 'none'}"
        raise BadInput(field="calibration", value=kind, limit=limit)
    found = calibration_history(session, instrument=instrument, kind=kind, limit=MOST, before=before)
    rows = [_row(one) for one in found["calibrations"]]
    return page(
        request,
        "calibrations_of_kind.html",
        instrument=instrument,
        kind=kind,
        title=title_of(kind),
        rows=rows,
        figures=figures_of(found["calibrations"]),
        older=further(request, before=found["next_before"]) if found["next_before"] else None,
        before=before,
    )


@router.get("/calibrations/plot.svg")
def plot(session: Asked, instrument: str, kind: str, figure: str, before: int | None = None) -> Response:
    """One figure of a kind of calibration over time."""
    found = calibration_history(session, instrument=instrument, kind=kind, limit=MOST, before=before)
    if figure not in figures_of(found["calibrations"]):
        raise BadInput(field="calibration", value=figure, limit="no such figure")
    return Response(history_svg(found["calibrations"], kind, figure), media_type="image/svg+xml")


@router.get("/calibrations/{number}")
def calibration(request: Request, session: Asked, number: int, after: int = 0) -> HTMLResponse:
    """One calibration: its figures, how it stands, and all that rests on it."""
    facts = affected_by(session, calibration_id=number, limit=100, after=after)
    value = facts["value"] if isinstance(facts["value"], dict) else {}
    more = further(request, after=facts["next_after"]) if facts["next_after"] else None
    return page(
        request,
        "calibration.html",
        one=facts,
        title=title_of(facts["kind"]),
        lines=list(value_lines(value, facts["uncertainty"])),
        standing=standing_words(facts, utc_now()),
        more=more,
        first=after == 0,
    )


def _titled(kinds: tuple[str, ...]) -> list[tuple[str, str]]:
    return [(kind, title_of(kind)) for kind in kinds]


def _row(one: dict[str, Any]) -> dict[str, Any]:
    state = "withdrawn" if one["withdrawn"] else one["verdict"]
    valid = one["valid_until"]
    expired = valid is not None and datetime.fromisoformat(valid) <= utc_now()
    words = "withdrawn" if one["withdrawn"] else "superseded" if one["superseded_by"] else "in force"
    return {
        **one,
        "chip": chip("fail" if state == "withdrawn" else state),
        "standing": "expired" if words == "in force" and expired else words,
    }
