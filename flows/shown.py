"""How what stands in the record is shown as a state of a flow run in Prefect."""

from prefect.states import Completed, Crashed, Failed, State

from db.vocabulary import LaunchState, RunState
from stem4d.night import TargetState


def launch_state(state: LaunchState, reason: str) -> "State[None] | None":
    """Of a deployed flow; None where it runs."""
    match state:
        case "running":
            return None
        case "refused":
            return Failed(name="Refused", message=reason)
        case "failed":
            return Failed(message=reason)
        case "terminated" | "lost":
            return lost_state(reason)
        case "warned":
            return Completed(name="Completed with warnings", message=reason)
        case "stopped":
            return Completed(name="Stopped", message=reason)
        case "done":
            return Completed(message=reason)


def run_state(state: RunState, reason: str) -> "State[None] | None":
    """Of the flow of a target or a calibration, by its last run; None where that runs."""
    match state:
        case "running":
            return None
        case "failed":
            return Failed(message=reason)
        case "crashed":
            return lost_state(reason)
        case _:
            return Completed(message=reason)


def target_state(state: TargetState, reason: str) -> "State[None]":
    """Of the flow of a target, by what came of it: what gave no data is red, what is to be looked at has its name."""
    match state:
        case TargetState.FAILED:
            return Failed(message=reason)
        case TargetState.REFUSED:
            return Failed(name="Refused", message=reason)
        case TargetState.DONE:
            return Completed(message=reason)
        case _:
            return Completed(name=state.value.capitalize(), message=reason)


def lost_state(reason: str) -> "State[None]":
    """Of one whose process is gone."""
    return Crashed(message=reason)
