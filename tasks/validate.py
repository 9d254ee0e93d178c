"""The stage that holds a plan against the rules, the instrument, and the calibrations once there are any."""

import shutil
from typing import Any

from db.operations import AddQuality, Figure
from stem4d.calibrate.correction import offset_from_middle_px
from stem4d.rules import check
from stem4d.verdict import Finding, Verdict
from tasks.calibrated import Calibrated
from tasks.lab import Lab, lab
from tasks.record import fluence_left_e_per_a2
from tasks.stage import stage


@stage("validate plan")
def validate(instrument: str, run: str, calibrated_json: str | None) -> dict[str, Any]:
    """Check the plan; without calibrations before anything moves, with them before the specimen is exposed."""
    opened = lab(instrument)
    plan = opened.runs[run].plan
    calibrated = Calibrated.model_validate_json(calibrated_json) if calibrated_json else None
    if calibrated is not None:
        measured = {"pattern_offset_px": offset_from_middle_px(calibrated.centre_px, plan.detector.shape)}
        plan = plan.model_copy(update={"detector": plan.detector.model_copy(update=measured)})
    checked = check(
        plan,
        instrument=opened.file.facts,
        calibrations=calibrated.figures() if calibrated else None,
        free_bytes=shutil.disk_usage(opened.settings.data_folder).free,
        spent_e_per_a2=max(0.0, plan.sample.fluence_budget_e_per_a2 - fluence_left_e_per_a2(opened, run)),
    )
    reason = " ".join(finding.message for finding in checked.hard)
    # The findings of the check before calibration are only of interest where they end the run.
    if calibrated is not None or checked.hard:
        _record(opened, run, checked.findings)
        opened.tell("plan checked", _summary(checked.hard, checked.soft), run)
    return {"hard": [finding.rule for finding in checked.hard], "reason": reason}


def _record(opened: Lab, run: str, findings: tuple[Finding, ...]) -> None:
    figures = tuple(
        Figure(
            metric=finding.rule,
            verdict=finding.verdict.value,
            message=finding.message
            + (f" {finding.remedy}" if finding.remedy and finding.verdict is not Verdict.PASS else ""),
            value=finding.value,
            limit=finding.limit,
            unit=finding.unit,
            analysis=finding.analysis,
        )
        for finding in findings
    )
    opened.recorder.record(AddQuality(run=run, stage="plan", figures=figures))


def _summary(hard: tuple[Finding, ...], soft: tuple[Finding, ...]) -> str:
    if hard:
        return "refused: " + " ".join(finding.message for finding in hard)
    if soft:
        return "can be run; mind: " + " ".join(finding.message for finding in soft)
    return "every rule is met"
