"""The deployed flow that measures calibrations: before a night, or when somebody elsewhere wants one."""

from functools import partial
from pathlib import Path

from prefect import flow, runtime
from prefect.states import State

from db.vocabulary import AskedBy
from flows.deployed.in_hand import Minutes, in_hand
from flows.deployed.taken_up import Ended, TakenUp, take_up
from flows.plan_file import check_plan
from flows.plans import instrument_of
from stem4d.plan import Plan
from storage.documents import load_model


def _name() -> str:
    given = runtime.flow_run.parameters
    return f"calibrate {', '.join(given.get('kinds') or ()) or 'what is stale'}"


@flow(name="calibrate", flow_run_name=_name, persist_result=False, log_prints=False)
def calibrate(
    plan_file: str,
    kinds: list[str] | None = None,
    instrument_file: str = "",
    wait_min: Minutes = 30.0,
    source: AskedBy = "person",
    key: str = "",
) -> State[None]:
    """Measure calibrations for a plan's settings.

    Args:
        plan_file: Plan file (YAML): its optics, detector, field and area.
        kinds: What to measure, whether or not it is stale. None: what its analyses need and is not valid.
        instrument_file: Instrument file (TOML). Empty: the one beside the plan, else the simulator's.
        wait_min: How long the instrument is waited for where somebody else has it [min].
        source: What asks.
        key: Its own name for this one time: the same is not done twice. Empty: this flow run.
    """
    body = partial(_run, path=Path(plan_file), kinds=tuple(kinds or ()), instrument=instrument_file)
    return take_up("calibrate", source, key, partial(body, wait_min=wait_min))


def _run(begun: TakenUp, *, path: Path, kinds: tuple[str, ...], instrument: str, wait_min: float) -> Ended:
    from flows.calibrate import calibrate_kinds, listed, to_measure
    from tasks.calibrations.kinds import check_kinds

    named, plan = check_kinds(kinds), load_model(path, Plan)
    file = instrument_of(path, Path(instrument) if instrument else None)
    check_plan(begun.settings, plan, path.name, file)
    with in_hand(begun, file, wait_min) as opened:
        wanted = to_measure(opened, listed(opened, plan, named), named)
        result = calibrate_kinds(opened, plan, wanted) if wanted else None
        lines = listed(opened, plan, named)
    if result is not None:
        begun.is_called(result.run, opened.file.name)
    bad = [f"{line.kind} is {line.standing.state}: {line.standing.why}" for line in lines if not line.good]
    measured = f"{result.run}: {', '.join(wanted)} measured" if result else "nothing had to be measured"
    complete = result.complete if result else not bad
    return Ended("done" if complete and not bad else "warned", "; ".join((measured, *bad)))
