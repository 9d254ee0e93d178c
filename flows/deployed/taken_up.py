"""How a deployed flow begins and ends: what asked is taken up once, and Prefect is shown what came of it."""

from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from signal import SIGTERM
from time import monotonic, sleep

from prefect import runtime
from prefect.exceptions import TerminationSignal
from prefect.states import Completed, State

from db import launches
from db.engine import Engine, writer
from db.errors import DatabaseAway
from db.vocabulary import AskedBy
from devices.interrupts import listen
from flows.notify import tell_people
from flows.shown import launch_state
from stem4d.errors import BadInput, DoseRefused, LimitViolation, NightbeamError
from storage.processes import this_process
from storage.settings import Settings, load_settings
from tasks.outbox import open_database

Say = Callable[[str], None]
DATABASE_WITHIN_S = 900.0
"""How long a database that is away is waited for: what asked does not ask again."""
LOOK_S = 15.0


class Terminated(TerminationSignal):
    """SIGTERM, as Prefect's engine wants to see it: it is a worker that ends, or a person who cancels."""

    def __init__(self) -> None:
        super().__init__(signal=SIGTERM)


@dataclass(frozen=True)
class Ended:
    """What came of a flow, in the words of the record."""

    state: launches.Ended
    words: str


@dataclass(frozen=True)
class TakenUp:
    """A flow that is this process's to run."""

    settings: Settings
    launch: int
    attempt: int
    """Above 1 where the process that had it before died, or was ended from outside."""
    say: Say
    """A line for Prefect's page of the flow run."""
    engine: Engine

    def is_called(self, name: str, instrument: str) -> None:
        """Record which night or run it is, and of which instrument."""
        # With the database away the name is told by the flow run alone.
        with suppress(NightbeamError), writer(self.engine) as session:
            launches.came_of(session, launch=self.launch, name=name, instrument=instrument)


def take_up(flow: str, source: AskedBy, key: str, body: Callable[[TakenUp], Ended]) -> State[None]:
    """Run a body unless what asks was taken up before; gives the state that the flow run is to end in.

    Parameters
    ----------
    flow : str
        Its name, for the record.
    source, key : str
        What asked, and its own name for this one time; Prefect's flow run is its own key where it has no other.
    body : callable
        What is to be done.
    """
    say = _logger()
    settings = load_settings()
    listen(interrupted=KeyboardInterrupt, terminated=Terminated)
    engine, launched, ours = _begun(settings, flow, source, key, say)
    try:
        if not ours:
            say(launched.words)
            return Completed(name="Done before", message=launched.words)
        ended = _closed(engine, launched.id, body, TakenUp(settings, launched.id, launched.attempt, say, engine))
        state = launch_state(ended.state, ended.words)
        assert state is not None
        return state
    finally:
        engine.dispose()


def _begun(
    settings: Settings, flow: str, source: AskedBy, key: str, say: Say
) -> tuple[Engine, launches.Launched, bool]:
    """The database with this launch in it; where it is away it is waited for, and at last people are told."""
    flow_run, until = str(runtime.flow_run.id), monotonic() + DATABASE_WITHIN_S
    while True:
        try:
            with ExitStack() as stack:
                engine = open_database(settings)
                stack.callback(engine.dispose)
                with writer(engine) as session:
                    launched, ours = launches.begin(
                        session,
                        source=source,
                        key=key or flow_run,
                        flow=flow,
                        flow_run_id=flow_run,
                        deployment=str(runtime.deployment.name or ""),
                        process=this_process(),
                    )
                stack.pop_all()
                return engine, launched, ours
        except DatabaseAway as error:
            if monotonic() >= until:
                trouble = tell_people(settings, "not_started", f"nightbeam: {flow} did not start", str(error))
                say(f"no message: {trouble}" if trouble else "people were told")
                raise
            say(f"waits for the database: {error}")
            sleep(LOOK_S)


def _closed(engine: Engine, launch: int, body: Callable[[TakenUp], Ended], begun: TakenUp) -> Ended:
    """Run a body, and record how it ended; what ends it from outside is raised again."""
    try:
        ended = body(begun)
    except (BadInput, LimitViolation, DoseRefused) as error:
        ended = Ended("refused", str(error))
    except NightbeamError as error:
        ended = Ended("failed", str(error))
    except BaseException as error:
        words = f"{type(error).__name__}: {error}".rstrip(": ")
        _record(engine, launch, "failed" if isinstance(error, Exception) else "terminated", words)
        raise
    _record(engine, launch, ended.state, ended.words)
    return ended


def _record(engine: Engine, launch: int, state: launches.Ended, words: str) -> None:
    # With the database away it stays open, and `reconcile` closes it by what became of the night.
    with suppress(NightbeamError), writer(engine) as session:
        launches.end(session, launch=launch, state=state, reason=words)


def _logger() -> Say:
    from prefect.logging import get_run_logger

    logger = get_run_logger()
    return lambda line: logger.info("%s", line)
