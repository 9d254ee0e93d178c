"""The stage that holds a plan against the rules, the instrument, and the calibrations once there are any."""

from functools import partial
from typing import Any

from db.operations import AddQuality, Figure
from stem4d.calibrate.correction import offset_from_middle_px
from stem4d.rules import check
from stem4d.verdict import Finding, Verdict
from storage.disk import free_bytes
from tasks.calibrated import Calibrated
from tasks.lab import Lab, lab
from tasks.record import fluence_left_e_per_a2
from tasks.stage import stage

CURRENT = "current_ratio"
HARMFUL = ("fluence_budget", "damage_rate")
"""Rules of which even a short exposure is one too many: specimen and detector keep what it does."""


@stage("validate plan")
def validate(instrument: str, run: str, calibrated_json: str | None) -> dict[str, Any]:
    """Check the plan; without calibrations before anything moves, with them before the specimen is exposed."""
    opened = lab(instrument)
    plan = opened.runs[run].plan
    calibrated = Calibrated.model_validate_json(calibrated_json) if calibrated_json else None
    if calibrated is not None:
        measured = {"pattern_offset_px": offset_from_middle_px(calibrated.centre_px, plan.detector.shape)}
        plan = plan.model_copy(update={"detector": plan.detector.model_copy(update=measured)})
    ask = partial(
        check,
        plan,
        instrument=opened.file.facts,
        free_bytes=free_bytes(opened.settings.data_folder),
        reserve_bytes=opened.settings.disk_reserve_gb * 1e9,
        spent_e_per_a2=max(0.0, plan.sample.fluence_budget_e_per_a2 - fluence_left_e_per_a2(opened, run)),
    )
    figures = calibrated.figures() if calibrated else None
    findings = ask(calibrations=figures).findings
    if figures is not None and CURRENT in figures:
        as_commanded = {kind: figure for kind, figure in figures.items() if kind != CURRENT}
        findings = with_doubt_of_current(findings, ask(calibrations=as_commanded).findings)
    hard, soft = (tuple(one for one in findings if one.verdict is each) for each in (Verdict.FAIL, Verdict.WARN))
    # The findings of the check before calibration are only of interest where they end the run.
    if calibrated is not None or hard:
        _record(opened, run, findings)
        opened.tell("plan checked", _summary(hard, soft), run)
    return {"hard": [finding.rule for finding in hard], "reason": " ".join(finding.message for finding in hard)}


def with_doubt_of_current(measured: tuple[Finding, ...], commanded: tuple[Finding, ...]) -> tuple[Finding, ...]:
    """Findings by the measured current, where only it fails what would do no harm: a warning.

    What the first rows show is mended by the remedies, with figures of the specimen instead of the plan's guesses.
    """
    failed = {(one.rule, one.analysis, one.quantity) for one in commanded if one.verdict is Verdict.FAIL}

    def judged(one: Finding) -> Finding:
        key = one.rule, one.analysis, one.quantity
        if one.verdict is not Verdict.FAIL or one.rule in HARMFUL or key in failed:
            return one
        message = f"{one.message} That is by the current as measured; as commanded the plan would do."
        return one.model_copy(update={"verdict": Verdict.WARN, "message": message})

    return tuple(judged(one) for one in measured)


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
