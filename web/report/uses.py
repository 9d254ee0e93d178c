"""What each calibration was used for in a run: the steps that took its value, or that none did.

What is set, accumulated, booked and analysed is `tasks.calibrated`; what the plan was held against stands among the
run's findings.
"""

from collections.abc import Mapping
from typing import Any

from stem4d.rules.limits import calibrations_for
from web.report.text import listed

NOT_USED = "valid, not used in this run"
_STEPS: Mapping[str, str] = {
    "pixel_mask": "pixels left out of every sum, centre of mass and quality figure",
    "centre": "centre of the virtual detectors and of the centre of mass; room around the disk in the quality check",
    "disk": "centre of the virtual detectors and of the centre of mass; room around the disk in the quality check",
    "descan": "diffraction shift and descan that were set for the scan",
    "current": "dose that was booked; electrons expected in a pattern",
    "mrad_per_pixel": "radii of the virtual detectors; angles of the centre of mass, quality check and pictures",
    "scan_step": "lengths in the pictures; the scan itself was told the nominal step",
    "convergence_semi_angle": "circle of the disk in the pictures; the detectors keep the plan's angles",
}
"""Where the value itself goes, of the kinds that a run takes it of."""
_RULES: Mapping[str, tuple[str, ...]] = {
    "mrad_per_pixel": ("angle_scale", "strain_scale"),
    "ellipticity": ("strain_scale",),
    "scan_step": ("step_scale",),
    "convergence_semi_angle": ("realignment",),
    "descan": ("descan_residual",),
    "defocus": ("defocus_known",),
}
"""Rules of the plan check that look at a kind's value or error, by their names in the findings."""
_WORDS = {
    "angle_scale": "uncertainty of the angle per pixel",
    "strain_scale": "strain error of the angles",
    "step_scale": "uncertainty of the scan step",
    "realignment": "change of the convergence angle",
    "descan_residual": "movement that is left",
    "defocus_known": "uncertainty of the defocus",
}
_IN_VACUUM = ("counts_per_electron", "dark_flat")


def used_for(one: Mapping[str, Any], facts: Mapping[str, Any]) -> str:
    """What a run used one of its calibrations for, from what ``db.questions.show.show_run`` says of the run."""
    kind, name = one["kind"], facts["name"]
    exposed = any(each["purpose"] == "acquisition" for each in facts["exposures"])
    said = [_STEPS[kind]] if exposed and kind in _STEPS else []
    if kind in _IN_VACUUM and any(
        each["kind"] == "current" and each["evidence_run"] == name for each in facts["calibrations"]
    ):
        said.append("counts of this run's own vacuum scans")
    checked = {each["metric"] for each in facts["quality"] if each["stage"] == "plan"}
    rules = [_WORDS[rule] for rule in _RULES.get(kind, ()) if rule in checked]
    if rules:
        said.append(f"plan check: {listed(rules)}")
    elif "calibrations_present" in checked and kind in _wanted(facts):
        said.append("plan check: that it is there")
    return "; ".join(said) or NOT_USED


def _wanted(facts: Mapping[str, Any]) -> tuple[str, ...]:
    """Kinds that the analyses of the run's plan need, once each."""
    analyses = facts["plan"]["document"]["analyses"]
    needed = (calibrations_for(each["kind"], each.get("reference", "")) for each in analyses)
    return tuple(dict.fromkeys(kind for kinds in needed for kind in kinds))


def lacking(facts: Mapping[str, Any]) -> tuple[str, ...]:
    """Kinds of calibration that the run's analyses need and that it did not have, where the plan check said so."""
    if not any(
        each["metric"] == "calibrations_present" and each["verdict"] != "pass" and each["stage"] == "plan"
        for each in facts["quality"]
    ):
        return ()
    there = {each["kind"] for each in facts["calibrations"]}
    return tuple(kind for kind in _wanted(facts) if kind not in there)
