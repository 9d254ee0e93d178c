"""The stages of an approach: to the pose, at rest, in place, in focus, and clean; each with figure and limit."""

from typing import Any

import numpy as np

from devices.protocols import PosedStage
from stem4d.approach import FOCUS_ELECTRONS, POSE_UNITS, SURVEY_ELECTRONS, StagePose
from stem4d.calibrate import place, refocus
from stem4d.calibrate.focus_scans import focus_scans
from stem4d.errors import BadInput, NotConfirmed
from stem4d.maps import RunMaps
from stem4d.quality.contamination import MOST_GROWN
from stem4d.quality.drift_seen import Scans, drift_seen
from stem4d.quality.fading import fit_shares
from stem4d.quality.grade import grade
from stem4d.quality.remedies.settle import waits_s
from stem4d.verdict import Verdict
from tasks.approach_pattern import straightened
from tasks.approach_scans import PLACED_BY, Way, way_of
from tasks.calibrations.bench import MOST_POSITIONS
from tasks.calibrations.tilts import fit_of
from tasks.stage import stage

BASELINE_S = 20.0
"""Between two scans that tell the drift."""
MOST_BLIND = 3
"""Pairs of scans in a row that cannot be registered: waiting longer shows no more, and costs dose."""
MOST_SURVEYS = 4
MOST_FOCUS_SCANS = 5


def done(way: Way, reason: str = "") -> dict[str, Any]:
    """What a stage gives: how the column is set now, and why the target has to be left, or nothing."""
    return {"calibrated": way.calibrated.model_dump_json(), "reason": reason}


@stage("move stage")
def move_stage(instrument: str, run: str, calibrated_json: str) -> dict[str, Any]:
    """Go to the area and its pose, coming from the side that takes the backlash out, and compare what was reached."""
    way = way_of(instrument, run, calibrated_json)
    there = way.opened.instrument.stage
    there.go_to(way.plan.sample.area)
    if (pose := way.approach.pose) is not None:
        go(way, pose)
    return done(way)


def go(way: Way, pose: StagePose) -> None:
    """Move to a pose, and record by how much what was reached differs.

    Raises
    ------
    LimitViolation
        Where an axis does not go so far.
    NotConfirmed
        Where the stage reads something else than it was asked for.
    """
    reached = posed(way).move_to(pose)
    off_um = max(abs(getattr(reached, axis) - getattr(pose, axis)) for axis in ("x_um", "y_um", "z_um"))
    facts = way.opened.file.facts.stage
    limit = facts.reads_within_um if facts is not None else 0.0
    verdict = Verdict.PASS if off_um <= limit else Verdict.FAIL
    words = ", ".join(f"{axis.split('_')[0]} {getattr(reached, axis):.6g} {unit}" for axis, unit in POSE_UNITS.items())
    way.record("stage", verdict, f"The stage reads {words}.", value=off_um, limit=limit, unit="um")
    if verdict is Verdict.FAIL:
        raise NotConfirmed(device="stage", setting="pose", asked=pose.model_dump(), read=reached.model_dump())


def posed(way: Way) -> PosedStage:
    """The stage; raises `BadInput` where its driver knows no poses."""
    there = way.opened.instrument.stage
    if not isinstance(there, PosedStage):
        limit = f"cannot be had: the driver of {way.opened.file.name} sends the stage to stored positions alone"
        raise BadInput(field="approach.pose", value="a pose", limit=limit, remedy="Leave it out, or name a stored area")
    return there


def turned_deg(way: Way) -> float:
    """Angle of the scan's axes to the stage's, from x towards y [deg]."""
    facts = way.opened.file.facts.stage
    return way.plan.scan.rotation_deg + (facts.scan_rotation_deg if facts else 0.0)


@stage("settle stage")
def settle_stage(instrument: str, run: str, calibrated_json: str) -> dict[str, Any]:
    """Wait until the drift is surely below its limit, watched beside the target where there is a focus area."""
    way = way_of(instrument, run, calibrated_json)
    return done(way, _settled(way))


def drift_limit_nm_per_min(way: Way) -> float:
    """What the plan states; else a tenth of a step in a line."""
    stated = way.approach.max_drift_nm_per_min
    scan, exposure = way.plan.scan, way.plan.exposure
    line_s = (scan.shape[1] * exposure.dwell_time_us + scan.flyback_us) * 1e-6
    return stated if stated is not None else 60 * 0.1 * scan.step_nm / line_s


def _settled(way: Way) -> str:
    """Why the stage has not settled; empty where it has."""
    limit, request = drift_limit_nm_per_min(way), way.own_request()
    instrument = way.opened.instrument
    last = "there was no time to look"
    blind = 0

    def look() -> tuple[float, RunMaps]:
        at_s = instrument.now_s()
        if way.approach.focus_area is None:
            return at_s, way.over_target("settling", request).maps()
        return at_s, way.beside("settling", request, way.plan.optics.defocus_nm).maps()

    for wait_s in (0.0, *waits_s(60 * way.approach.max_settling_min, BASELINE_S)):
        instrument.pause(wait_s)
        first = look()
        instrument.pause(BASELINE_S)
        second = look()
        seen = drift_seen(Scans((first[1], second[1]), (first[0], second[0]), request.step_nm))
        if not seen.ok:
            last = f"drift is not known: {seen.reason}"
            way.record("drift", Verdict.NOT_MEASURABLE, f"After the move {last}.", limit=limit, unit="nm/min")
            blind += 1
            if blind == MOST_BLIND:
                return f"{last}, {blind} times in a row; is it far out of focus or height, or empty?"
            continue
        blind = 0
        speed, error = seen.speed_nm_per_min, seen.speed_uncertainty_nm_per_min
        verdict, _ = grade(speed, error, hard=limit)
        last = f"it drifts {speed:.3g} ± {error:.2g} nm/min, at most {limit:.3g} is waited for"
        figures = {"value": speed, "limit": limit, "unit": "nm/min", "uncertainty": error}
        way.record("drift", verdict, f"After the move {last}.", **figures)
        if verdict is Verdict.PASS:
            return ""
    return f"the stage has not settled within {way.approach.max_settling_min:g} min: {last}"


@stage("put field in place")
def put_in_place(instrument: str, run: str, calibrated_json: str) -> dict[str, Any]:
    """Survey, lay over the thumbnail, and bring the field there by beam shift, or by the stage beyond its reach."""
    way = way_of(instrument, run, calibrated_json)
    if way.approach.thumbnail is None:
        return done(way)
    thumbnail, step_nm = way.thumbnail()
    request = way.request(thumbnail.scan_shape, step_nm, SURVEY_ELECTRONS)
    unshifted: RunMaps | None = None
    for _ in range(MOST_SURVEYS):
        survey = way.over_target(PLACED_BY, request).maps()
        found = place.find(thumbnail, survey, way.bench.true_step_nm(step_nm))
        if not found.ok:
            limit = place.HALF_STEP * way.plan.scan.step_nm
            text = f"The survey does not show the target of thumbnail {way.approach.thumbnail}: {found.reason}"
            way.record("place", Verdict.NOT_MEASURABLE, f"{text}.", limit=limit, unit="nm")
            return done(way, text[0].lower() + text[1:])
        verdict, limit = place.judged(found, way.plan.scan.step_nm)
        figures = {"value": found.distance_nm, "limit": limit, "unit": "nm", "uncertainty": found.uncertainty_nm}
        text = f"The target lies ({found.off_nm[0]:+.3g}, {found.off_nm[1]:+.3g}) nm (y, x) from the field's middle"
        way.record("place", verdict, f"{text} (correlation {found.correlation:.2f} with its thumbnail).", **figures)
        moved = False
        if unshifted is None:
            unshifted = survey
        else:
            way, moved = straightened(way, unshifted, survey, step_nm)
        if verdict is Verdict.PASS and not moved:
            return done(way)
        if verdict is not Verdict.PASS:
            if 2.5 * found.uncertainty_nm > limit:
                return done(
                    way, f"the target's place is known to {found.uncertainty_nm:.2g} nm only; {limit:.3g} is the limit"
                )
            way = _brought(way, found)
            if not any(way.column.beam_shift_nm) and (reason := _settled(way)):
                return done(way, reason)
    return done(
        way, f"the field is not in place after {MOST_SURVEYS} surveys; the last one was {found.distance_nm:.3g} nm off"
    )


def _brought(way: Way, found: place.Found) -> Way:
    """The field over the target: by beam shift, or by the stage with no beam shift where that does not reach."""
    facts, area = way.opened.file.facts, way.approach.focus_area
    beside = area.offset_nm if area else (0.0, 0.0)
    now = way.column.beam_shift_nm
    shift = place.beam_shift_for(now, found, facts.beam_shift_nm, beside)
    if shift is not None:
        way.record(
            "beam_shift",
            Verdict.PASS,
            f"The beam shift is ({shift[0]:.4g}, {shift[1]:.4g}) nm (y, x).",
            value=max(map(abs, shift)),
            limit=facts.beam_shift_nm.highest if facts.beam_shift_nm else None,
            unit="nm",
        )
        return way.with_column(beam_shift_nm=shift)
    wanted = now[0] + found.off_nm[0], now[1] + found.off_nm[1]
    go(way, place.pose_for(posed(way).pose(), wanted, turned_deg(way)))
    return way.with_column(beam_shift_nm=(0.0, 0.0))


@stage("focus beside target")
def focus(instrument: str, run: str, calibrated_json: str) -> dict[str, Any]:
    """Measure defocus and astigmatism on the focus area, correct both, and measure again until they hold."""
    way = way_of(instrument, run, calibrated_json)
    if way.approach.focus_area is None:
        return done(way)
    told = way.plan.optics
    facts = way.opened.file.facts
    far, near = focus_scans(
        told.beam_energy_kev, told.convergence_semi_angle_mrad, way.calibrated.mrad_per_pixel, facts.defocus_nm.highest
    )
    limit = refocus.limit_nm(told.beam_energy_kev, told.convergence_semi_angle_mrad)
    last = ""
    for number in range(MOST_FOCUS_SCANS):
        scan = far if number == 0 else near
        bench = way.bench
        # The fit takes the step as it really is, and the raster is asked for what comes out as the scan's.
        asked_nm = scan.step_nm / bench.true_step_nm(1.0)
        scanned = way.beside(
            "focus", way.request((MOST_POSITIONS, MOST_POSITIONS), asked_nm, FOCUS_ELECTRONS), scan.defocus_nm
        )
        _images, fit = fit_of(bench, scanned, scan.step_nm, scan.defocus_nm)
        if not fit.ok:
            last = f"the focus cannot be measured: {fit.reason}"
            way.record(
                "focus",
                Verdict.NOT_MEASURABLE,
                f"By {scan.defocus_nm:.4g} nm of underfocus {last}.",
                limit=limit,
                unit="nm",
            )
            continue
        error = refocus.error_of(fit, scan)
        verdicts = refocus.judged(error, limit)
        _record_focus(way, error, verdicts, limit)
        if scan is near and verdicts == (Verdict.PASS, Verdict.PASS):
            return done(way)
        off = f"defocus is off by {error.defocus_nm:.3g} nm, astigmatism is {error.astigmatism_nm:.3g} nm"
        last = f"{off}, at most {limit:.3g}"
        correction, stigmator = refocus.corrected(way.column.focus_correction_nm, way.column.stigmator_nm, error)
        way = way.with_column(focus_correction_nm=correction, stigmator_nm=stigmator)
    return done(way, f"the probe is not in focus after {MOST_FOCUS_SCANS} scans: {last}")


def _record_focus(way: Way, error: refocus.FocusError, verdicts: tuple[Verdict, Verdict], limit: float) -> None:
    rows = (
        ("focus", "Defocus is off by", abs(error.defocus_nm), error.defocus_uncertainty_nm),
        ("astigmatism", "Twofold astigmatism is", error.astigmatism_nm, error.astigmatism_uncertainty_nm),
    )
    for (metric, words, value, by), verdict in zip(rows, verdicts, strict=True):
        text = (
            f"{words} {value:.3g} ± {by:.2g} nm on the focus area, a quarter of the depth of field is {limit:.3g} nm."
        )
        way.record(metric, verdict, text, value=value, limit=limit, unit="nm", uncertainty=by)


@stage("check contamination")
def contamination(instrument: str, run: str, calibrated_json: str) -> dict[str, Any]:
    """Whether what was exposed for focusing gains counts at high angles from one scan to the next."""
    way = way_of(instrument, run, calibrated_json)
    if way.approach.focus_area is None:
        return done(way)
    request = way.own_request()
    scans = [way.beside("contamination", request, way.plan.optics.defocus_nm).maps() for _ in range(2)]
    beyond = np.array([float(one.virtual["beyond_disk"].sum()) for one in scans])
    totals = np.array([float(one.total.sum()) for one in scans])
    fading = fit_shares(beyond, totals, np.array([0.5, 1.5]), 1.0, 0.002)
    if fading is None:
        text = "Contamination is not known: too few counts beyond the disk."
        way.record("contamination", Verdict.NOT_MEASURABLE, text, limit=MOST_GROWN)
        return done(way)
    grown, error = -fading.lost, fading.lost_uncertainty
    verdict, _ = grade(grown, error, hard=MOST_GROWN)
    text = f"The share of counts beyond the disk grew by {grown:+.1%} ± {error:.1%} on the focus area"
    way.record("contamination", verdict, f"{text}.", value=grown, limit=MOST_GROWN, uncertainty=error)
    reason = f"{text[0].lower()}{text[1:]}, at most {MOST_GROWN:.0%}: it is being contaminated"
    return done(way, reason if verdict is Verdict.FAIL else "")
