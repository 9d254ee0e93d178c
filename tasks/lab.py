"""The opened instrument and database of this process: stages pass names and ids, and find the rest here."""

import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from db.clock import utc_now
from db.engine import Engine
from db.operations import AddEvent
from db.recorder import Recorder
from devices import safety_log
from devices.acquire import Progress
from devices.children import Children
from devices.guard import Guard, guarding
from devices.lease import owned
from devices.protocols import BeamFound, BeamWitness, Instrument
from devices.registry import open_instrument
from devices.safety import SafeLevel, make_safe
from devices.standby import Standby
from stem4d.errors import DeviceFault, NightbeamError
from stem4d.instrument import InstrumentFile
from stem4d.night import Approval
from stem4d.plan import Plan
from stem4d.verdict import QualityResult
from storage.crash import crash_point
from storage.documents import load_model
from storage.home import unusable
from storage.journal import Journal
from storage.settings import Settings
from tasks.left import close_left, save_frames
from tasks.memory import Memory
from tasks.outbox import land, open_database
from tasks.ownership import Ownership, owning


@dataclass(frozen=True)
class Told:
    """One line of the story, as it happens."""

    kind: str
    message: str
    run: str | None
    warning: bool = False
    """Whether it is something that should not be."""


@dataclass(frozen=True)
class OpenRun:
    """A run that this process has opened: its rows in the database and its plan."""

    name: str
    id: int
    area_id: int
    target_id: int | None
    plan: Plan
    opened_s: float = 0.0
    """The instrument's clock when it was opened [s]."""


@dataclass
class Lab:
    """What the stages of a run work with."""

    settings: Settings
    file: InstrumentFile
    instrument: Instrument
    engine: Engine
    outbox: Journal
    ownership: Ownership
    guard: Guard
    """Without it no beam is let through: see `devices.guard`."""
    on_told: Callable[[Told], None] = lambda _told: None
    on_progress: Callable[[str, Progress], None] = lambda _what, _progress: None
    on_stage: Callable[[str], None] = lambda _stage: None
    """Called with the name of each stage of a run, before it begins."""
    on_judged: Callable[[str, tuple[QualityResult, ...]], None] = lambda _run, _results: None
    """Called with the figures of a run that were judged, in the middle of it and at its end."""
    on_watched: Callable[[int], None] = lambda _frames: None
    """Called where the frames of a pass so far give no reason to stop it, with their number."""
    break_off: Callable[[], str] = lambda: ""
    """Why what is exposed is to end now, as a person asked; empty to go on. Asked between batches of frames."""
    between: Callable[[], str] = lambda: ""
    """The same between passes, with the beam blanked: a stop after the pass, too. Returns when the night goes on."""
    left_open: tuple[str, ...] = ()
    """Runs and nights that a process which died had left open; closed when this session began."""
    left_words: tuple[str, ...] = ()
    """The same, with what their exposures are charged with and what came of their frames, for a person."""
    beam_found: str = ""
    """That the session before this one left the beam on, since when and where; empty where it did not."""
    night_id: int | None = None
    calibrate_always: bool = False
    """True where calibrations of earlier sessions are not to be trusted."""
    accept_stale: bool = False
    """True where a run may use calibrations past their time; each use is recorded as such."""
    needs: tuple[str, ...] = ()
    """Kinds of calibration without which the target that runs is not to be exposed."""
    approval: Approval | None = None
    """Before what a person is asked."""
    prefect_away: str = ""
    """Why nothing is shown to Prefect any more; empty where it is. A flow that it begins clears it."""
    opened_at: datetime = field(default_factory=utc_now)
    runs: dict[str, OpenRun] = field(default_factory=dict)
    memory: Memory = field(default_factory=Memory)
    owed: list[Callable[[], object]] = field(default_factory=list)
    """What was put off until the database is back: pages that are made from it."""

    def __post_init__(self) -> None:
        self.recorder = Recorder(self.engine, self.outbox, self._database_changed)
        self.standby = Standby(self.remember_worker, (type(self.instrument).__module__,))

    def _database_changed(self, kind: str, message: str) -> None:
        """Say so once; what the database missed is recorded when it is there again."""
        self.show(kind, message)
        if kind == "database back":
            self._record(kind, message, None, {})
            while self.owed and not self.recorder.waiting:
                self.owed.pop(0)()

    def settle(self) -> None:
        """Record what waits, if the database is back; what is wrong with that is told and ends nothing."""
        try:
            self.recorder.settle()
        except NightbeamError as error:
            self.show("not recorded", f"what waits for the database still waits: {error}")

    def tell(self, kind: str, message: str, run: str | None = None, **figures: float | int | str | None) -> None:
        """Record an event and show it."""
        self._record(kind, message, run, figures)
        self.show(kind, message, run)

    def warn(self, kind: str, message: str, run: str | None = None) -> None:
        """Show an event and record it if possible: on the way out of an error nothing may hide that error."""
        self.on_told(Told(kind, message, run, warning=True))
        try:
            self._record(kind, message, run, {})
        except NightbeamError as error:
            self.show(kind, f"the line before this one could not be recorded: {error}", run)

    def _record(self, kind: str, message: str, run: str | None, figures: dict[str, float | int | str | None]) -> None:
        known = self.runs.get(run) if run else None
        self.recorder.record(
            AddEvent(
                event=kind,
                message=message,
                data=figures or None,
                run=known.name if known else None,
                target=known.target_id if known else None,
                night=self.night_id,
            )
        )

    def watched_anew(self) -> None:
        """Have a watchdog ready while nothing is exposed, and say so where it is not the one of before.

        Raises
        ------
        Unwatched
            Where none can be started.
        """
        if lost := self.guard.ready():
            self.warn("safety", f"{self.file.name}: {lost}. Another watchdog was started")

    def show(self, kind: str, message: str, run: str | None = None) -> None:
        """Show something that the database records by itself."""
        self.on_told(Told(kind, message, run))

    def stand_by(self) -> None:
        """Have the next acquisition process come up beside what is done before its exposure."""
        if self.settings.worker == "child":
            self.standby.begin()

    def remember_worker(self, pid: int) -> None:
        """Note an acquisition process, so that the next owner ends it should it outlive this one."""
        self.children.remember(pid, "the acquisition")

    @property
    def children(self) -> Children:
        """The processes that this session starts for its instrument."""
        return Children(self.settings.instruments_folder / self.file.name)

    def data_folder(self, run: str) -> Path:
        """Where a run's files go; made if missing. Raises `BadInput` where it cannot be, before anything is exposed."""
        folder = self.settings.data_folder / run
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise unusable(error) from None
        return folder


_open: dict[str, Lab] = {}


def lab(instrument: str) -> Lab:
    """The lab of an instrument that this process has opened."""
    try:
        return _open[instrument]
    except KeyError:
        raise DeviceFault(f"{instrument} is not open in this process") from None


def settle(instrument: str) -> None:
    """Between two stages: record what waits, if the database is back."""
    if instrument in _open:
        _open[instrument].settle()


@contextmanager
def open_lab(settings: Settings, instrument_path: Path, *, by_force: bool = False) -> Iterator[Lab]:
    """Take an instrument and the database; on every way out the instrument is parked with its beam blanked.

    A watchdog is there from the beginning of the session until the instrument is let go. ``by_force`` is for a person
    who has seen that the owner of a lease that still holds has gone.

    Raises
    ------
    BadInput
        For an instrument file that is wrong, an unknown driver, or an instrument that somebody else holds.
    Unwatched
        For an instrument that no second process can make safe, or whose watchdog cannot be started.
    """
    file = load_model(instrument_path, InstrumentFile)
    settings.data_folder.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        engine = open_database(settings)
        stack.callback(engine.dispose)
        folder = settings.instruments_folder / file.name
        stack.enter_context(owned(file.name, folder))
        crash_point("lab.owned")
        # Before anything is looked up: the runs and exposures that wait there count as those that have landed.
        outbox = stack.enter_context(land(engine, folder, _say_landed))
        owner = stack.enter_context(owning(engine, file.name, _say, by_force=by_force))
        crash_point("lab.leased")
        # Beside the opening of the instrument, which takes as long.
        guard = stack.enter_context(
            guarding(file, instrument_path, settings.home, lambda: open_instrument(file, settings.home))
        )
        instrument = open_instrument(file, settings.home)
        opened = Lab(
            settings=settings,
            file=file,
            instrument=instrument,
            engine=engine,
            outbox=outbox,
            ownership=owner,
            guard=guard,
        )
        stack.callback(opened.settle)
        stack.callback(opened.standby.end)
        stack.push(lambda _kind, error, _where: _let_go(opened, error))
        stack.push(lambda _kind, error, _where: _park(opened, error))
        guard.begin(instrument)
        crash_point("lab.opened")
        _tidy(opened)
        owner.show_to(instrument.gate)
        crash_point("lab.tidied")
        _say_what_was_found(opened)
        _open[file.name] = opened
        stack.callback(_open.pop, file.name)
        yield opened


def _tidy(opened: Lab) -> None:
    """Stop what a session that died may have left running, and close what it left open in the database."""
    instrument = opened.instrument
    found = instrument.found if isinstance(instrument, BeamWitness) else None
    on = instrument.gate.is_blanked() is False
    report = make_safe(instrument, SafeLevel.PARK, "a session begins")
    ended = opened.children.end_leftovers()  # after the beam is off: it may take a while
    closed = close_left(opened.engine, opened.settings, opened.file.name, opened.ownership.token)
    left = closed.abandoned
    opened.left_open = (*left.runs, *left.nights)
    _tell_of_watchdogs(opened)
    if on or found:
        opened.beam_found = _beam_words(opened.file.name, found, left.exposing, blanked=report.safe)
        opened.warn("safety", opened.beam_found)
    if not report.safe:
        raise DeviceFault(
            f"{opened.file.name} could not be made safe before the start: {report.words}. Look at the instrument"
            + (f". {opened.beam_found}" if opened.beam_found else "")
        )
    opened.left_words = save_frames(opened.engine, opened.settings, closed, left.runs).lines + ended


def _tell_of_watchdogs(opened: Lab) -> None:
    """What watchdogs had to do since the last session that was told of it."""
    folder = opened.settings.instruments_folder / opened.file.name
    if words := safety_log.untold(folder):
        for text in words:
            opened.warn("safety", f"{opened.file.name}: {text}")
            print(f"safety: {opened.file.name}: {text}", file=sys.stderr)
        safety_log.told(folder)
    if not opened.guard.needed:
        print(f"safety: {opened.file.name} has no beam: no watchdog is needed, and none runs", file=sys.stderr)


def _beam_words(
    instrument: str, found: BeamFound | None, exposing: tuple[str, datetime] | None, *, blanked: bool
) -> str:
    """What a session that died did with the beam, from the instrument's log or else from the last open booking."""
    if found is not None:
        where, since = found.area or "an unknown place", _parsed(found.since)
    elif exposing is not None:
        where, since = exposing
    else:
        where, since = "an unknown place", None
    until = _parsed(found.until) if found and found.until else None
    when = f"since {since:%Y-%m-%d %H:%M:%S} UTC" if since else "since nobody knows when"
    lasted = f", {((until or utc_now()) - since).total_seconds():.0f} s" if since else ""
    if until:
        how = f"until the instrument blanked it by itself at {until:%H:%M:%S} UTC"
    else:
        how = "and blanked now" if blanked else "and COULD NOT BE BLANKED"
    return f"{instrument}: the beam was left on at {where} {when}{lasted}, {how}; see what the area has received"


def _parsed(time: str) -> datetime | None:
    try:
        parsed = datetime.fromisoformat(time)
    except ValueError:
        return None
    return parsed if parsed.tzinfo else None


def _say_landed(words: str) -> None:
    print(f"recorded: {words}", file=sys.stderr)


def _say_what_was_found(opened: Lab) -> None:
    """In every mode, on standard error: a list and JSON on standard output stay what they are."""
    for line in opened.left_words:
        print(f"closed: {line}", file=sys.stderr)
    if opened.beam_found:
        print(f"safety: {opened.beam_found}", file=sys.stderr)


def _say(trouble: str) -> None:
    print(f"not closed: {trouble}", file=sys.stderr)


def _park(opened: Lab, error: BaseException | None) -> None:
    """Park; where that fails the user reads of it after what went wrong first, and never instead of it."""
    crash_point("lab.parking")
    if opened.ownership.lost:
        # Its new owner has made it safe, and may be exposing: what we do to it would be done to him.
        opened.warn("not parked", f"{opened.ownership.lost}; it is left as it is")
        return
    report = make_safe(opened.instrument, SafeLevel.PARK, "the session ends")
    if not report.safe:
        opened.warn("safety", f"parking the instrument did not work fully: {report.words}")
        first = f"{error}. Then " if isinstance(error, NightbeamError) else ""
        text = f"{first}parking {opened.file.name} did not work fully: {report.words}. Look at the instrument"
        raise DeviceFault(text) from error


def _let_go(opened: Lab, error: BaseException | None) -> None:
    """Close the instrument; what is wrong with that is told, and raised only where nothing went wrong before."""
    crash_point("lab.closing")
    if opened.ownership.lost:
        return
    try:
        opened.instrument.close()
    except Exception as more:
        if error is None:
            raise
        opened.warn("not closed", f"{opened.file.name} could not be closed: {more}")
