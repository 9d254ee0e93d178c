"""The stage that decides what is done about a failing figure: a changed plan within dose and time, or none."""

import json
from typing import Any

from db.operations import AddRemedy
from stem4d.model import canonical_json
from stem4d.quality.pixels import new_hot_pixels
from stem4d.quality.remedies.choose import LAST, propose
from stem4d.quality.remedies.remedy import NoRemedy, Remedy, Situation, changed
from stem4d.verdict import QualityResult, Verdict
from tasks.calibrated import Calibrated
from tasks.lab import Lab, lab
from tasks.means import means_of
from tasks.recorded_maps import recorded_passes
from tasks.stage import stage
from tasks.withdraw import withdraw

OUTCOMES = {"skip": "the target was left as it is", "end_night": "the night was ended"}


@stage("mend")
def mend(
    instrument: str,
    run: str,
    calibrated_json: str,
    exposed: dict[str, Any],
    quality: dict[str, Any],
    runs: list[str],
) -> dict[str, Any]:
    """Choose a remedy after the last of these attempts.

    Returns
    -------
    dict
        ``words``; ``plan_json`` of the next attempt, None where there is none; ``wait``: for what drift before it
        (`Wait`), or None; ``leave`` is "skip", "end_night" or empty.
    """
    opened = lab(instrument)
    known = opened.runs[run]
    calibrated = Calibrated.model_validate_json(calibrated_json)
    maps = recorded_passes(exposed)[-1]
    bad = calibrated.bad_pixel_mask(known.plan.detector.shape)
    found = propose(
        Situation(
            results=_results(quality, exposed),
            plan=known.plan,
            maps=maps,
            means=means_of(opened, runs, calibrated.current_ratio),
            geometry=calibrated.geometry(),
            bad_pixels=bad | new_hot_pixels(maps, bad),
        )
    )
    if isinstance(found, NoRemedy):
        opened.tell("no remedy", found.reason, run)
        return {"words": f"no remedy: {found.reason}", "plan_json": None, "wait": None, "leave": ""}
    _record(opened, run, found)
    opened.tell("remedy", f"{found.words}: {found.reason}. Cost: {found.cost}", run)
    if found.withdraws:
        withdraw(opened, run, found.reason, found.withdraws)
    leaves = found.action in LAST
    return {
        "words": found.words,
        "plan_json": None if leaves else canonical_json(changed(known.plan, found)),
        "wait": found.wait.model_dump() if found.wait else None,
        "leave": found.action if leaves else "",
    }


def _results(quality: dict[str, Any], exposed: dict[str, Any]) -> tuple[QualityResult, ...]:
    """What was judged at the end and between passes, and a stop itself where the recorded rows alone do not fail."""
    stopped: str = exposed["stopped"]
    told = [*quality["results"], *exposed["failing"]]
    results = [QualityResult.model_validate_json(json.dumps(one)) for one in told]
    if stopped:
        # The frames that did not come after a stop are missing because of it.
        results = [one for one in results if not one.metric.startswith("frames.")]
    if stopped and not any(one.verdict is Verdict.FAIL for one in results):
        metric = "dose.electrons" if stopped.startswith("no beam") else "run.stopped"
        results.append(
            QualityResult(
                metric=metric,
                analysis=None,
                verdict=Verdict.FAIL,
                value=None,
                limit=None,
                unit="",
                message=stopped,
            )
        )
    return tuple(results)


def _record(opened: Lab, run: str, found: Remedy) -> None:
    opened.recorder.record(
        AddRemedy(
            run=run,
            cause_metric=found.cause,
            action=found.action,
            from_value={each.field: each.before for each in found.changes} or None,
            to_value={each.field: each.after for each in found.changes} or None,
            cost=found.cost,
            outcome=OUTCOMES.get(found.action, "tried in the next attempt"),
        )
    )
