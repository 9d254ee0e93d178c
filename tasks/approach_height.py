"""The stage of an approach that brings the target to the eucentric height, by surveys at two tilts."""

from typing import Any

from stem4d.calibrate import eucentric, place
from stem4d.quality.drift_seen import shift_between
from stem4d.verdict import Verdict
from tasks.approach import done, go, posed, turned_deg
from tasks.approach_scans import Way, way_of
from tasks.stage import stage

MOST_TRIES = 3


@stage("eucentric height")
def eucentric_height(instrument: str, run: str, calibrated_json: str) -> dict[str, Any]:
    """Tilt and tilt back, measure the height by how the target moved, and take it out by z until it holds."""
    way = way_of(instrument, run, calibrated_json)
    tilt = way.approach.eucentric_tilt_deg
    if tilt is None:
        return done(way)
    limit = eucentric.limit_nm(way.plan.scan.step_nm, tilt)
    words = ""
    for _ in range(MOST_TRIES):
        height, lost = _measured(way, tilt)
        if height is None:
            text = f"The height over the eucentric plane is not known: {lost}"
            way.record("height", Verdict.NOT_MEASURABLE, f"{text}.", limit=limit, unit="nm")
            return done(way, text[0].lower() + text[1:])
        verdict = eucentric.judged(height, limit)
        words = f"the target lies {height.height_nm:+.3g} ± {height.uncertainty_nm:.2g} nm over the eucentric plane"
        figures = {"value": abs(height.height_nm), "limit": limit, "unit": "nm", "uncertainty": height.uncertainty_nm}
        way.record("height", verdict, f"{words[0].upper()}{words[1:]}.", **figures)
        if verdict is Verdict.PASS:
            return done(way)
        if abs(height.height_nm) > height.uncertainty_nm:
            go(way, eucentric.brought(posed(way).pose(), height))
    return done(way, f"the eucentric height is not reached after {MOST_TRIES} tries: {words}, at most {limit:.3g}")


def _measured(way: Way, tilt_deg: float) -> tuple[eucentric.Height | None, str]:
    """The height, or why it is not known; the stage is tilted back."""
    pose = posed(way).pose()
    tilted = pose.model_copy(update={"alpha_deg": pose.alpha_deg + tilt_deg})
    request = way.survey_request()

    def survey() -> Any:
        return way.over_target("height", request).maps()

    first = survey()
    go(way, tilted)
    try:
        second = survey()
    finally:
        go(way, pose)
    third = survey()
    step_nm = way.bench.true_step_nm(request.step_nm)
    there, back = (place.found_by(shift_between(first, one), step_nm) for one in (second, third))
    for one, name in ((there, "tilted"), (back, "last")):
        if not one.ok:
            return None, f"the {name} survey does not match the first: {one.reason}"
    height = eucentric.height_of(there, back, turned_deg(way), pose.alpha_deg, tilted.alpha_deg)
    return height, ""
