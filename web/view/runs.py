"""The list of runs with its filters."""

from datetime import UTC, datetime
from math import isfinite
from typing import Any, get_args

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse

from db.questions.lists import instruments
from db.questions.run_filters import reading_filter
from db.questions.runs import list_runs
from db.vocabulary import RunState, Verdict
from stem4d.errors import BadInput
from web.view.pages import Asked, further, page

router = APIRouter()
PAGE = 30
_TEXTS = ("sample", "instrument", "analysis", "text")


@router.get("/runs")
def runs(request: Request, session: Asked) -> HTMLResponse:
    """Runs, newest first, by what the form asks for; an empty field asks for nothing."""
    given = {name: value.strip() for name, value in request.query_params.items() if value.strip()}
    found = list_runs(session, **_filters(given), limit=PAGE, before=_whole("before", given.get("before")))
    older = further(request, before=found.next_before) if found.next_before else None
    return page(
        request,
        "runs.html",
        runs=found.runs,
        older=older,
        given=given,
        instruments=tuple(instruments(session)),
        states=get_args(RunState),
        verdicts=get_args(Verdict),
    )


def _filters(given: dict[str, str]) -> dict[str, Any]:
    return {
        **{name: given[name] for name in _TEXTS if name in given},
        "state": _one_of("state", given.get("state"), get_args(RunState)),
        "verdict": _one_of("verdict", given.get("verdict"), get_args(Verdict)),
        "since": _day("since", given.get("since")),
        "until": _day("until", given.get("until")),
        "readings": [reading_filter(given["reading"])] if "reading" in given else (),
        "dose_below_e_per_a2": _number("dose_below", given.get("dose_below")),
        "dose_above_e_per_a2": _number("dose_above", given.get("dose_above")),
        "stale": given.get("stale") == "yes",
    }


def _one_of(field: str, given: str | None, known: tuple[str, ...]) -> str | None:
    if given is not None and given not in known:
        raise BadInput(field=field, value=given, limit=f"one of {', '.join(known)}")
    return given


def _day(field: str, given: str | None) -> datetime | None:
    if given is None:
        return None
    try:
        at = datetime.fromisoformat(given)
        # In UTC, where the ends of time have no place in some zones.
        return (at if at.tzinfo else at.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError):
        raise BadInput(field=field, value=given, limit="a day as 2026-03-01, or a time, in UTC") from None


def _number(field: str, given: str | None) -> float | None:
    if given is None:
        return None
    try:
        value = float(given)
    except ValueError:
        value = float("nan")
    if not isfinite(value):
        raise BadInput(field=field, value=given, limit="a number", unit="e/Å²")
    return value


def _whole(field: str, given: str | None) -> int | None:
    if given is None:
        return None
    if not given.isdecimal() or len(given) > 18:
        raise BadInput(field=field, value=given, limit="the number that a page ended with")
    return int(given)
