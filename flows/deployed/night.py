"""The deployed flow of a night: by its schedule, by a trigger, or by a person elsewhere."""

from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

from prefect import flow, runtime
from prefect.states import State

from db.vocabulary import AskedBy
from flows.deployed.in_hand import Minutes, in_hand
from flows.deployed.taken_up import Ended, TakenUp, take_up
from flows.night_file import Start, read_night, run_read, tell_lost, telling_that_it_never_started
from flows.story import night_name
from stem4d.errors import BadInput
from stem4d.night import Night
from storage.documents import load_model

LATEST = timedelta(hours=1)
"""After its time a scheduled night is not begun any more."""


def _name() -> str:
    path = Path(str(runtime.flow_run.parameters.get("night_file", "night")))
    try:
        return night_name(load_model(path, Night), datetime.now(UTC))
    except BadInput:  # what is wrong with it is told when it is taken up
        return path.stem


@flow(name="night", flow_run_name=_name, persist_result=False, log_prints=False)
def night(
    night_file: str,
    start: Start = "go_on",
    accept_stale: bool = False,
    wait_min: Minutes = 30.0,
    source: AskedBy = "person",
    key: str = "",
) -> State[None]:
    """Run many experiments, unattended; where the last night of this file was broken off, go on with it.

    Args:
        night_file: Night file (YAML), as the machine of the instrument has it.
        start: go_on: with the same night where it was broken off; only_go_on: do nothing else; afresh: never.
        accept_stale: Use calibrations past their time; each use is recorded as such.
        wait_min: How long the instrument is waited for where somebody else has it [min].
        source: What asks.
        key: Its own name for this one time: the same is not done twice. Empty: this flow run.
    """  # Google's form is the one that Prefect reads for its page.
    body = partial(_run, path=Path(night_file), start=start, accept_stale=accept_stale, wait_min=wait_min)
    body = partial(body, source=source)
    return take_up("night", source, key, body)


def _run(begun: TakenUp, *, path: Path, start: Start, accept_stale: bool, wait_min: float, source: AskedBy) -> Ended:
    from flows.night import not_as_wanted

    if begun.attempt > 1:
        # What was asked for is the night that was broken off since.
        start = "go_on"
    with ExitStack() as stack:
        with telling_that_it_never_started(begun.settings, path.name, begun.say):
            if source == "schedule" and begun.attempt == 1:
                refuse_late(runtime.flow_run.scheduled_start_time, datetime.now(UTC))
            read = read_night(begun.settings, path, start)
            opened = stack.enter_context(in_hand(begun, read.instrument, wait_min))
            tell_lost(begun.settings, opened, begun.say)
        result = run_read(
            opened,
            read,
            start,
            with_prefect=begun.settings.prefect,
            accept_stale=accept_stale,
            on_named=lambda name: begun.is_called(name, opened.file.name),
        )
    if result.asked_to_stop:
        return Ended("stopped", f"{result.name}: {result.reason}")
    lost = not_as_wanted(result.outcomes)
    return Ended("warned" if lost else "done", "; ".join((f"{result.name}: {result.reason}", *lost)))


def refuse_late(due: datetime, now: datetime) -> None:
    """Raise `BadInput` for a night whose time has passed: those of days when nothing ran would all begin at once."""
    if now - due > LATEST:
        raise BadInput(
            field="schedule",
            value=f"{due:%Y-%m-%d %H:%M %Z}",
            limit=f"was {(now - due).total_seconds() / 60:.0f} min ago; a night begins within the hour, or not",
            remedy="Start it by hand if it is still wanted",
        )
