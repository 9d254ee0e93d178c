"""The opened instrument and database of this process: stages pass names and ids, and find the rest here."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from db.abandoned import close_abandoned
from db.clock import utc_now
from db.engine import Engine, open_engine, writer
from db.record import add_event
from devices.acquire import Progress
from devices.lease import owned
from devices.protocols import Instrument
from devices.registry import open_instrument
from devices.safety import SafeLevel, make_safe
from stem4d.errors import DeviceFault
from stem4d.instrument import InstrumentFile
from stem4d.plan import Plan
from storage.documents import load_model
from storage.settings import Settings


@dataclass(frozen=True)
class Told:
    """One line of the story, as it happens."""

    kind: str
    message: str
    run: str | None


@dataclass(frozen=True)
class OpenRun:
    """A run that this process has opened: its rows in the database and its plan."""

    name: str
    id: int
    area_id: int
    target_id: int | None
    plan: Plan


@dataclass
class Lab:
    """What the stages of a run work with."""

    settings: Settings
    file: InstrumentFile
    instrument: Instrument
    engine: Engine
    on_told: Callable[[Told], None] = lambda _told: None
    on_progress: Callable[[str, Progress], None] = lambda _what, _progress: None
    left_open: tuple[str, ...] = ()
    """Runs and nights that a process which died had left open; closed when this session began."""
    night_id: int | None = None
    calibrate_always: bool = False
    """True where calibrations of earlier sessions are not to be trusted."""
    accept_stale: bool = False
    """True where a run may use calibrations past their time; each use is recorded as such."""
    opened_at: datetime = field(default_factory=utc_now)
    runs: dict[str, OpenRun] = field(default_factory=dict)

    def tell(self, kind: str, message: str, run: str | None = None, **figures: float | int | str) -> None:
        """Record an event and show it."""
        known = self.runs.get(run) if run else None
        with writer(self.engine) as session:
            add_event(
                session,
                kind=kind,
                message=message,
                data=figures or None,
                run_id=known.id if known else None,
                target_id=known.target_id if known else None,
                night_id=self.night_id,
            )
        self.show(kind, message, run)

    def show(self, kind: str, message: str, run: str | None = None) -> None:
        """Show something that the database records by itself."""
        self.on_told(Told(kind, message, run))

    def data_folder(self, run: str) -> Path:
        """Where a run's files go; made if missing."""
        folder = self.settings.data_folder / run
        folder.mkdir(parents=True, exist_ok=True)
        return folder


_open: dict[str, Lab] = {}


def lab(instrument: str) -> Lab:
    """The lab of an instrument that this process has opened."""
    try:
        return _open[instrument]
    except KeyError:
        raise DeviceFault(f"{instrument} is not open in this process") from None


@contextmanager
def open_lab(settings: Settings, instrument_path: Path) -> Iterator[Lab]:
    """Take an instrument and the database; on every way out the instrument is parked with its beam blanked.

    Raises
    ------
    BadInput
        For an instrument file that is wrong, an unknown driver, or an instrument that somebody else holds.
    """
    file = load_model(instrument_path, InstrumentFile)
    settings.data_folder.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        engine = open_engine(settings.database_url.get_secret_value())
        stack.callback(engine.dispose)
        stack.enter_context(owned(file.name, settings.instruments_folder / file.name))
        instrument = open_instrument(file, settings.home)
        stack.callback(instrument.close)
        opened = Lab(settings=settings, file=file, instrument=instrument, engine=engine)
        stack.callback(_park, opened)
        _tidy(opened)
        _open[file.name] = opened
        stack.callback(_open.pop, file.name)
        yield opened


def _tidy(opened: Lab) -> None:
    """Stop what a session that died may have left running, and close what it left open in the database."""
    report = make_safe(opened.instrument, SafeLevel.PARK, "a session begins")
    if not report.safe:
        failed = "; ".join(f"{step.name}: {step.error}" for step in report.steps if step.error)
        raise DeviceFault(f"{opened.file.name} could not be made safe before the start: {failed}. Look at it")
    with writer(opened.engine) as session:
        left = close_abandoned(session, instrument=opened.file.name)
    opened.left_open = (*left.runs, *left.nights)


def _park(opened: Lab) -> None:
    report = make_safe(opened.instrument, SafeLevel.PARK, "the session ends")
    if not report.safe:
        failed = "; ".join(f"{step.name}: {step.error}" for step in report.steps if step.error)
        opened.tell("safety", f"parking the instrument did not work fully: {failed}")
        raise DeviceFault(f"parking {opened.file.name} did not work fully: {failed}. Look at the instrument")
