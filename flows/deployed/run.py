"""The deployed flow of one experiment, from a plan file or from a plan that is filled in on Prefect's page."""

from functools import partial
from pathlib import Path
from typing import Annotated, Any

from prefect import flow, runtime
from prefect.states import State
from pydantic import BeforeValidator

from db.vocabulary import AskedBy
from flows.deployed.in_hand import Minutes, in_hand
from flows.deployed.taken_up import Ended, TakenUp, take_up
from flows.plan_file import check_plan
from flows.plans import instrument_of, shipped
from flows.story import target_name
from stem4d.errors import BadInput
from stem4d.plan import Plan
from storage.documents import load_model, validate
from tasks.lab import Lab, Told


def _from_page(given: Any) -> Any:
    """A plan as Prefect keeps it, JSON, whose lists are tuples of ours."""
    return validate(given, Plan, "plan") if isinstance(given, dict) else given


FilledIn = Annotated[Plan | None, BeforeValidator(_from_page)]


def _name() -> str:
    given = runtime.flow_run.parameters
    plan, path = given.get("plan"), Path(str(given.get("plan_file", "run")))
    try:
        one = plan if isinstance(plan, Plan) else load_model(path, Plan)
    except BadInput:  # what is wrong with it is told when it is taken up
        return path.stem
    return target_name(one.title or one.name, one)


@flow(name="run", flow_run_name=_name, persist_result=False, log_prints=False)
def run(
    plan_file: str = "",
    plan: FilledIn = None,
    instrument_file: str = "",
    accept_stale: bool = False,
    wait_min: Minutes = 30.0,
    source: AskedBy = "person",
    key: str = "",
) -> State[None]:
    """Run one experiment: check, calibrate, expose, judge, mend, analyse, record.

    Args:
        plan_file: Plan file (YAML), as the machine of the instrument has it. Or give the plan itself.
        plan: The plan, where no file is given.
        instrument_file: Instrument file (TOML). Empty: the one beside the plan, else the simulator's.
        accept_stale: Use calibrations past their time; each use is recorded as such.
        wait_min: How long the instrument is waited for where somebody else has it [min].
        source: What asks.
        key: Its own name for this one time: the same is not done twice. Empty: this flow run.
    """
    body = partial(_run, file=plan_file, plan=plan, instrument=instrument_file)
    return take_up("run", source, key, partial(body, accept_stale=accept_stale, wait_min=wait_min))


def _run(
    begun: TakenUp, *, file: str, plan: Plan | None, instrument: str, accept_stale: bool, wait_min: float
) -> Ended:
    from flows.run import run_plan

    if bool(file) == (plan is not None):
        limit = "either a plan file or a plan"
        raise BadInput(field="plan_file", value=file or "nothing", limit=limit, remedy="Give one of the two")
    one = plan or load_model(Path(file), Plan)
    given = Path(instrument) if instrument else None
    path = instrument_of(Path(file), given) if file else given or shipped("instruments/demo.toml")
    check_plan(begun.settings, one, one.name, path)
    with in_hand(begun, path, wait_min) as opened:
        opened.accept_stale = accept_stale
        _tell_name(begun, opened)
        outcome = run_plan(opened, one, with_prefect=begun.settings.prefect)
    words = f"{', '.join(outcome.runs)}: {outcome.state.value}. {outcome.reason}".rstrip()
    match outcome.state.value:
        case "failed" | "refused" as ended:
            return Ended(ended, words)
        case "done" | "mended":
            return Ended("warned" if outcome.lacking else "done", words)
    return Ended("stopped" if outcome.broken_off else "warned", words)


def _tell_name(begun: TakenUp, opened: Lab) -> None:
    """Record the name of each of its runs as it begins; the last one stays."""
    told = opened.on_told

    def on_told(one: Told) -> None:
        told(one)
        if one.kind == "run started" and one.run:
            begun.is_called(one.run, opened.file.name)

    opened.on_told = on_told
