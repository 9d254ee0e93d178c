"""What runs now, by files alone: the status and the small picture that the run leaves beside its instrument.

Nothing here can hold a run up: it is never asked, its files are replaced at once, and its database is not touched.
"""

from dataclasses import dataclass
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import HTMLResponse
from matplotlib.image import imsave
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

from devices.lease import is_owned, owner_pid
from stem4d.errors import BadInput
from stem4d.verdict import Verdict
from storage.glimpse import read_glimpse
from storage.orders import GOING, SINGLE_RUN, read_status
from storage.settings import Settings, instrument_folders
from web.report.tables import Chip, chip
from web.view.pages import page, settings_of

router = APIRouter()
SILENT_S = 60.0
"""A status that was not written for so long is said to be old [s]."""
Number = Annotated[int, Field(ge=0, lt=2**63)]
Time = Annotated[AwareDatetime | None, Field(strict=False)]


class _Part(BaseModel):
    """Of a file that may be anybody's, or another version's: what is not known is left alone."""

    model_config = ConfigDict(extra="ignore", frozen=True, strict=True, allow_inf_nan=False)


class Scan(_Part):
    """How far a scan has come."""

    name: str
    frames_done: Number
    frames_total: Number
    frames_per_s: float
    losses: str = ""
    queue_share: float = 0.0
    seconds_left: float | None = None

    @property
    def share(self) -> float:
        """Part of it that has come."""
        return self.frames_done / max(self.frames_total, 1)


class Target(_Part):
    """The target of a night that is being done."""

    name: str
    number: Number


class Judged(_Part):
    """A figure that was judged."""

    metric: str
    verdict: Annotated[Verdict, Field(strict=False)]
    analysis: str | None = None
    message: str = ""

    @property
    def chip(self) -> Chip:
        """The verdict as it is shown."""
        return chip(self.verdict)


class Status(_Part):
    """What the file says; what it lacks is empty."""

    state: str
    night: str = ""
    target: Target | None = None
    targets: Number | None = None
    plan: str = ""
    run: str | None = None
    stage: str = ""
    waiting_for: str = ""
    scan: Scan | None = None
    predicted_end: Time = None
    last: str = ""
    quality: Annotated[tuple[Judged, ...], Field(strict=False)] = ()
    nothing_amiss_to_frame: Number | None = None
    written: Time = None


@dataclass(frozen=True)
class Standing:
    """An instrument at work, and what is known of that."""

    instrument: str
    status: Status
    age_s: float | None
    """Since the status was written; None where it does not say."""

    @property
    def is_old(self) -> bool:
        """Whether nothing was heard for long: in a long wait that is as it should be."""
        return self.age_s is None or self.age_s > SILENT_S


def standing(settings: Settings) -> list[Standing]:
    """Every instrument on which something runs."""
    try:
        folders = instrument_folders(settings)
    except BadInput:
        # The record can be read all the same, and is what the other pages are for.
        return []
    return [one for one in map(_standing, folders) if one is not None]


def _standing(folder: Path) -> Standing | None:
    facts = read_status(folder)
    try:
        # Another command may have the instrument after a run that was killed: the status is then a dead one's.
        alive = facts is not None and is_owned(folder) and facts.get("pid") == owner_pid(folder)
    except OSError:
        return None
    if facts is None or not alive or facts.get("state") not in (*GOING, SINGLE_RUN):
        return None
    status = status_of(facts)
    age_s = None if status.written is None else (datetime.now(UTC) - status.written).total_seconds()
    return Standing(folder.name, status, age_s)


def status_of(facts: dict[str, Any]) -> Status:
    """A status with a known state as far as it can be read: what has another form is left out."""
    try:
        return Status.model_validate(facts)
    except ValidationError as error:
        wrong = {each["loc"][0] for each in error.errors()}
        return Status.model_validate({name: fact for name, fact in facts.items() if name not in wrong})


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
        "running": [(one, _picture_shape(settings, one)) for one in standing(settings)],
        "now": f"{datetime.now(UTC):%H:%M:%S}",
    }


def _picture_shape(settings: Settings, one: Standing) -> tuple[int, int] | None:
    """Height and width of the running image; None where none is to be seen."""
    if one.status.scan is None:
        return None
    grey = read_glimpse(settings.instruments_folder / one.instrument)
    return None if grey is None else (grey.shape[0], grey.shape[1])
