"""How a target ended whose last run was closed before its night broke off."""

from typing import Any

import pytest

from db.resume import BrokenRun
from db.vocabulary import RunState
from flows.resume import judged_before


def run(state: RunState, **more: Any) -> BrokenRun:
    facts: dict[str, Any] = {"lit": True, "passes": ((0, "pass1.h5"),), "reason": "why", **more}
    return BrokenRun(id=1, name="r1", state=state, area_id=1, plan_json="{}", **facts)


@pytest.mark.parametrize(
    ("broken", "expected"),
    [
        (run("done"), ("done", "why")),
        (run("done", reason=""), ("done", "")),
        (run("done", mended_by=("settle", "spare_area")), ("mended", "why; after settle; spare_area")),
        (run("done", reason="", mended_by=("settle",)), ("mended", "after settle")),
        (run("marked"), ("marked", "why")),
        (run("marked", remedies=("settle",)), ("marked", "why (settle not tried: the night broke off)")),
        (run("marked", remedies=("end_night",)), ("marked", "why")),
        (run("marked", remedies=("skip",)), ("skipped", "why")),
        (run("marked", lit=False), None),
        *((run(state), None) for state in ("running", "refused", "stopped", "failed", "crashed")),
    ],
)
def test_a_closed_run_says_how_its_target_ended(broken: BrokenRun, expected: tuple[str, str] | None) -> None:
    found = judged_before(broken, ("r0", "r1"))
    assert (found and (found.state.value, found.reason)) == expected
    if found:
        assert found.runs == ("r0", "r1")
        assert not found.broken_off
