"""The deployed flow that brings Prefect's picture in line with the record, and takes up what was lost."""

from functools import partial

from prefect import flow
from prefect.states import State

from db.vocabulary import AskedBy
from flows.deployed.taken_up import Ended, TakenUp, take_up


@flow(name="tidy", flow_run_name="tidy", persist_result=False, log_prints=False)
def tidy(take_up_lost: bool = True, source: AskedBy = "event", key: str = "") -> State[None]:
    """Close what processes that died left open, tell people, and show Prefect how flow runs really ended.

    Args:
        take_up_lost: Whether nights that were lost go on; each is begun three times at most.
        source: What asks.
        key: Its own name for this one time: the same is not done twice. Empty: this flow run.
    """
    return take_up("tidy", source, key, partial(_run, take_up_lost=take_up_lost))


def _run(begun: TakenUp, *, take_up_lost: bool) -> Ended:
    from flows.reconcile import reconcile

    found = reconcile(begun.settings, take_up_lost=take_up_lost)
    for line in found.lines:
        begun.say(line)
    return Ended("done", f"{len(found.lines)} things put right")
