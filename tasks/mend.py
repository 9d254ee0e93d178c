"""The stage that decides what is done about a failing figure: a changed plan within the dose that is left, or none."""

import json
from typing import Any

from db.engine import writer
from db.results import add_remedy
from stem4d.model import canonical_json
from stem4d.quality.pixels import new_hot_pixels
from stem4d.quality.remedy import NoRemedy, changed, propose
from stem4d.verdict import QualityResult
from tasks.calibrated import Calibrated
from tasks.check import recorded_passes
from tasks.lab import lab
from tasks.record import fluence_left_e_per_a2
from tasks.stage import stage
from tasks.withdraw import withdraw


@stage("mend")
def mend(
    instrument: str, run: str, calibrated_json: str, exposed: dict[str, Any], quality: dict[str, Any], attempt: int
) -> dict[str, str | None]:
    """Choose a remedy; gives it in words, and the plan to try next as JSON where there is one."""
    opened = lab(instrument)
    known = opened.runs[run]
    calibrated = Calibrated.model_validate_json(calibrated_json)
    left = fluence_left_e_per_a2(opened, run)
    maps = recorded_passes(exposed)[-1]
    bad = calibrated.bad_pixel_mask(known.plan.detector.shape)
    remedy = propose(
        [QualityResult.model_validate_json(json.dumps(one)) for one in quality["results"]],
        known.plan,
        maps,
        calibrated.geometry(),
        bad | new_hot_pixels(maps, bad),
        left / max(1.0, calibrated.current_ratio),
        opened.file.facts.dwell_time_us.lowest,
    )
    if not isinstance(remedy, NoRemedy) and attempt >= known.plan.quality.max_attempts:
        remedy = NoRemedy(f"{attempt} attempts were made, which is all that the plan allows")
    if isinstance(remedy, NoRemedy):
        opened.tell("no remedy", remedy.reason, run)
        return {"words": f"no remedy: {remedy.reason}", "plan_json": None}
    with writer(opened.engine) as session:
        add_remedy(
            session,
            run_id=known.id,
            cause_metric=remedy.cause,
            action=remedy.action,
            from_value={remedy.field: remedy.from_value} if remedy.field else None,
            to_value={remedy.field: remedy.to_value} if remedy.field else None,
            cost=remedy.cost,
            outcome="tried in the next attempt",
        )
    change = f" ({remedy.field} {remedy.from_value:g} to {remedy.to_value:g} {remedy.unit})" if remedy.field else ""
    words = f"{remedy.action}{change}"
    opened.tell("remedy", f"{words}: {remedy.reason}. Cost: {remedy.cost}", run)
    if not remedy.field:
        withdraw(opened, run, remedy.reason)
    return {"words": words, "plan_json": canonical_json(changed(known.plan, remedy))}
