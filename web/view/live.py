"""What runs now, by files alone: the status and the small picture that the run leaves beside its instrument.

Nothing here can hold a run up: it is never asked, and its files are replaced at once.
"""

from dataclasses import dataclass
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import HTMLResponse
from matplotlib.image import imsave

from db.questions.show import show_run
from devices.lease import is_owned
from stem4d.errors import BadInput
from storage.glimpse import read_glimpse
from storage.orders import read_status
from storage.settings import Settings
from web.report.tables import chip
from web.view.pages import Asked, page, settings_of

router = APIRouter()
OVER = ("ended", "done", "stopped", "failed", "crashed", "")
SILENT_S = 60.0
"""A status that was not written for so long is said to be old [s]."""


@dataclass(frozen=True)
class Standing:
    """An instrument at work, and what is known of that."""

    instrument: str
    status: dict[str, Any]
    age_s: float | None
    """Since the status was written; None where it does not say."""

    @property
    def is_old(self) -> bool:
        """Whether nothing was heard for long: in a long wait that is as it should be."""
        return self.age_s is None or self.age_s > SILENT_S

    @property
    def share(self) -> float | None:
        """Part of the scan that has come."""
        scan = self.status.get("scan")
        return scan["frames_done"] / max(scan["frames_total"], 1) if scan else None


def standing(settings: Settings) -> list[Standing]:
    """Every instrument on which something runs."""
    try:
        folders = sorted(path for path in settings.instruments_folder.iterdir() if path.is_dir())
    except OSError:
        return []
    return [one for one in map(_standing, folders) if one is not None]


def _standing(folder: Path) -> Standing | None:
    status = read_status(folder)
    if status is None or status.get("state", "") in OVER or not is_owned(folder):
        return None
    try:
        age_s = (datetime.now(UTC) - datetime.fromisoformat(status["written"])).total_seconds()
    except (KeyError, ValueError, TypeError):
        age_s = None
    return Standing(folder.name, status, age_s)


@router.get("/live")
def live(request: Request, session: Asked) -> HTMLResponse:
    """What runs now on each instrument; the page asks again by itself."""
    return page(request, "live.html", **_values(request, session))


@router.get("/live/part")
def part(request: Request, session: Asked) -> HTMLResponse:
    """The part of that page which changes."""
    return page(request, "live_part.html", **_values(request, session))


@router.get("/live/{instrument}/image.png")
def image(request: Request, instrument: str) -> Response:
    """The running virtual image of an instrument."""
    known = {one.instrument for one in standing(settings_of(request))}
    grey = read_glimpse(settings_of(request).instruments_folder / instrument) if instrument in known else None
    if grey is None:
        raise BadInput(field="picture", value=instrument, limit="nothing is to be seen there now")
    buffer = BytesIO()
    imsave(buffer, grey, format="png", cmap="gray", vmin=0, vmax=255)
    return Response(buffer.getvalue(), media_type="image/png", headers={"Cache-Control": "no-store"})


def _values(request: Request, session: Any) -> dict[str, Any]:
    settings = settings_of(request)
    return {
        "running": [(one, _quality(session, one), _has_picture(settings, one)) for one in standing(settings)],
        "now": f"{datetime.now(UTC):%H:%M:%S}",
    }


def _has_picture(settings: Settings, one: Standing) -> bool:
    return bool(one.status.get("scan")) and read_glimpse(settings.instruments_folder / one.instrument) is not None


def _quality(session: Any, one: Standing) -> list[dict[str, Any]]:
    """What was judged of the run so far and does not pass, the worst first; nothing while it is not in the record."""
    name = one.status.get("run")
    if not name:
        return []
    try:
        judged = show_run(session, name=name)["quality"]
    except BadInput:
        return []
    order = ("fail", "warn", "pass")
    told = [each for each in judged if each["stage"] == "online" and each["verdict"] in order]
    return [
        {**each, "chip": chip(each["verdict"])} for each in sorted(told, key=lambda each: order.index(each["verdict"]))
    ]
