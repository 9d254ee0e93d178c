"""The approach to a target: the stages before its exposure in order, up to the first that cannot be done."""

from collections.abc import Callable
from typing import Any

from stem4d.errors import BadInput, LimitViolation, NotConfirmed
from tasks.lab import Lab


def is_wanted(opened: Lab, runs: list[str]) -> bool:
    """Whether the last of these attempts is to be approached: pose and thumbnail are those of the plan's own area."""
    plan, first = opened.runs[runs[-1]].plan, opened.runs[runs[0]].plan
    if plan.approach is None:
        return False
    if plan.sample.area != first.sample.area:
        text = f"the approach is that of {first.sample.area}; {plan.sample.area} is exposed where it is stored"
        opened.tell("approach", text, runs[-1])
        return False
    return True


def approach(call: Callable[..., Any], instrument: str, run: str, calibrated_json: str) -> tuple[str, str]:
    """What is calibrated afterwards, as JSON, and why the target has to be left; empty where it is ready."""
    # Imported here: few plans are approached, and the others are not kept waiting for it.
    from tasks.approach import contamination, focus, move_stage, put_in_place, settle_stage
    from tasks.approach_height import eucentric_height

    for stage in (move_stage, settle_stage, eucentric_height, put_in_place, focus, contamination):
        try:
            came = call(stage, instrument, run, calibrated_json)
        except (BadInput, LimitViolation, NotConfirmed) as error:
            # What was asked of the instrument cannot be had: no fault of the machines that other targets would meet.
            return calibrated_json, str(error)
        calibrated_json = came["calibrated"]
        if came["reason"]:
            return calibrated_json, came["reason"]
    return calibrated_json, ""
