"""The approach to a target: the stages before its exposure in order, up to the first that cannot be done."""

from collections.abc import Callable
from typing import Any

from tasks.approach import contamination, focus, move_stage, put_in_place, settle_stage

STAGES = (move_stage, settle_stage, put_in_place, focus, contamination)


def approach(call: Callable[..., Any], instrument: str, run: str, calibrated_json: str) -> tuple[str, str]:
    """What is calibrated afterwards, as JSON, and why the target has to be left; empty where it is ready."""
    for stage in STAGES:
        came = call(stage, instrument, run, calibrated_json)
        calibrated_json = came["calibrated"]
        if came["reason"]:
            return calibrated_json, came["reason"]
    return calibrated_json, ""
