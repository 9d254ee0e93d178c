"""What runs now, by files alone: the status and the small picture that the run leaves beside its instrument.

Nothing here can hold a run up: it is never asked, its files are replaced at once, and its database is not touched.
"""

from dataclasses import dataclass
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import HTMLResponse
from matplotlib.image import imsave

from devices.lease import is_owned, owner_pid
from stem4d.errors import BadInput
from storage.glimpse import read_glimpse
from storage.orders import read_status
from storage.settings import Settings
from web.report.tables import chip
from web.view.pages import page, settings_of

router = APIRouter()
RUNS = ("running", "paused", "waiting", "single run")
"""States of a status that tells of something that goes on."""
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
    try:
        # Another command may have the instrument after a run that was killed: the status is then a dead one's.
        alive = status is not None and is_owned(folder) and status.get("pid") == owner_pid(folder)
    except OSError:
        return None
    if status is None or not alive or status.get("state") not in RUNS:
        return None
    try:
        age_s = (datetime.now(UTC) - datetime.fromisoformat(status["written"])).total_seconds()
    except (KeyError, ValueError, TypeError):
        age_s = None
    return Standing(folder.name, status, age_s)


@router.get("/live")
def live(request: Request) -> HTMLResponse:
    """What runs now on each instrument; the page asks again by itself."""
    return page(request, "live.html", **_values(request))


@router.get("/live/part")
def part(request: Request) -> HTMLResponse:
    """The part of that page which changes."""
    return page(request, "live_part.html", **_values(request))


@router.get("/live/{instrument}/image.png")
def image(request: Request, instrument: str) -> Response:
    """The running virtual image of an instrument."""
    known = {one.instrument for one in standing(settings_of(request))}
    grey = read_glimpse(settings_of(request).instruments_folder / instrument) if instrument in known else None
    if grey is None:
        raise BadInput(field="picture", value=instrument, limit="nothing is to be seen there now")
    buffer = BytesIO()
    imsave(buffer, grey, format="png", cmap="gray", vmin=0, vmax=255)
    return Response(buffer.getvalue(), media_type="image/png")


def _values(request: Request) -> dict[str, Any]:
    settings = settings_of(request)
    return {
        "running": [(one, _quality(one), _picture_shape(settings, one)) for one in standing(settings)],
        "now": f"{datetime.now(UTC):%H:%M:%S}",
    }


def _picture_shape(settings: Settings, one: Standing) -> tuple[int, int] | None:
    """Height and width of the running image; None where none is to be seen."""
    if not one.status.get("scan"):
        return None
    grey = read_glimpse(settings.instruments_folder / one.instrument)
    return None if grey is None else (grey.shape[0], grey.shape[1])


def _quality(one: Standing) -> list[dict[str, Any]]:
    """What was judged of the run so far, the worst first, as the run tells it."""
    return [{**each, "chip": chip(each["verdict"])} for each in one.status.get("quality") or []]
