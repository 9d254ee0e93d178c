"""All checks of a run together, and what they come to for each analysis."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

import numpy as np

from stem4d.calibrate.pixels import Mask
from stem4d.catalogue import CATALOGUE
from stem4d.detector import DetectorFacts
from stem4d.errors import BadInput
from stem4d.maps import RunMaps
from stem4d.plan import Plan
from stem4d.predict import at_current, predict
from stem4d.quality.beam import check_beam
from stem4d.quality.between import compare
from stem4d.quality.centring import check_centring
from stem4d.quality.contamination import check_contamination
from stem4d.quality.damage import check_damage
from stem4d.quality.descan import check_descan, furthest_px
from stem4d.quality.dose import check_dose
from stem4d.quality.drift import check_drift
from stem4d.quality.drift_seen import Scans
from stem4d.quality.frames import check_frames
from stem4d.quality.pixels import check_dead_pixels, check_pixels, new_hot_pixels
from stem4d.quality.rate import check_rate, counts_put_back
from stem4d.quality.regions import PatternGeometry, Subject, mask_for, subject_of_plan
from stem4d.quality.sampling import check_sampling
from stem4d.quality.saturation import check_saturation
from stem4d.quality.scan import check_scan
from stem4d.quality.wrap import check_wrap
from stem4d.rules.registry import Calibrated
from stem4d.verdict import QualityResult, Verdict, worst


def judge(
    plan: Plan,
    passes: Sequence[RunMaps],
    started_s: Sequence[float],
    geometry: PatternGeometry | None = None,
    bad_pixels: Mask | None = None,
    detector: DetectorFacts | None = None,
    references: Scans | None = None,
    calibrations: Mapping[str, Calibrated] | None = None,
) -> tuple[QualityResult, ...]:
    """Judge what a run recorded.

    Parameters
    ----------
    plan : Plan
        What was wanted, and which limits it sets.
    passes : sequence of RunMaps
        What was recorded, in order, at least one pass.
    started_s : sequence of float
        When each pass began, on any one clock [s].
    geometry : PatternGeometry, optional
        The calibrated disk; it stands in where none is found in the data. The plan's where absent.
    bad_pixels : ndarray of bool, shape (det_y, det_x), optional
        Pixels that are left out.
    detector : DetectorFacts, optional
        What is known of the plan's detector; the catalogue's where absent.
    references : Scans, optional
        Fast scans of the same area around the passes, on the same clock: they tell the drift within a pass.
    calibrations : mapping of str to Calibrated, optional
        What is calibrated, by the plan rules' names: sampling, overlap and electrons are judged with it instead of the
        plan's.

    Raises
    ------
    BadInput
        If there is no pass, the passes differ in shape, or their starts do not rise.
    """
    known = (calibrations or {}).get("current_ratio")
    plan = at_current(plan, known.value) if known is not None else plan
    whole = joined(passes)
    subject, new = subject_of_run(plan, whole, geometry, bad_pixels, detector)
    # Each pass has its own movement; the one that moves furthest is judged.
    movements = [check_descan(one, subject) for one in passes]
    between = compare(passes, subject)
    return (
        *check_frames(passes),
        check_pixels(whole, new),
        check_dead_pixels(whole, subject),
        *check_saturation(whole, subject),
        *check_rate(whole, subject),
        *check_wrap(whole, subject),
        *check_centring(whole, subject),
        *max(movements, key=furthest_px),
        *check_drift(passes, started_s, subject, references),
        *check_scan(passes, subject),
        *check_sampling(subject, calibrations),
        *check_dose(passes, subject, new),
        *check_beam(passes, started_s, predict(plan).pass_time_s, new, counts_put_back(passes, subject)),
        *check_damage(between, subject),
        *check_contamination(between, subject),
    )


def subject_of_run(
    plan: Plan,
    whole: RunMaps,
    geometry: PatternGeometry | None,
    bad_pixels: Mask | None,
    detector: DetectorFacts | None,
) -> tuple[Subject, Mask]:
    """What is known of a run's passes taken as one, and hot pixels that no mask knew; arguments as for ``judge``."""
    bad = mask_for(whole.sum_pattern.shape, bad_pixels)
    new = new_hot_pixels(whole, bad)
    # Two hot pixels at full scale outweigh a faint disk. Dose, saturation and centring leave them out; maps of the
    # centre of mass, and so descan and drift, still hold them.
    facts = detector if detector is not None else CATALOGUE.get(plan.detector.name)
    return replace(subject_of_plan(plan, whole, bad | new, geometry), detector=facts), new


def joined(passes: Sequence[RunMaps]) -> RunMaps:
    """The passes as one recording, their maps one below the other: for what does not depend on the position.

    Raises
    ------
    BadInput
        If there is no pass, or they differ in shape.
    """
    shapes = {(one.scan_shape, one.sum_pattern.shape) for one in passes}
    if len(shapes) != 1:
        raise BadInput(field="passes", value=sorted(shapes), limit="must be at least one pass, all of one shape")
    if len(passes) == 1:
        return passes[0]
    return RunMaps(
        recorded=np.concatenate([one.recorded for one in passes]),
        total=np.concatenate([one.total for one in passes]),
        com_y_px=np.concatenate([one.com_y_px for one in passes]),
        com_x_px=np.concatenate([one.com_x_px for one in passes]),
        maximum=np.concatenate([one.maximum for one in passes]),
        saturated_px=np.concatenate([one.saturated_px for one in passes]),
        invalid_px=np.concatenate([one.invalid_px for one in passes]),
        sum_pattern=np.sum([one.sum_pattern for one in passes], axis=0, dtype=np.uint64),
        max_pattern=np.max([one.max_pattern for one in passes], axis=0),
        full_scale=passes[0].full_scale,
    )


def verdict_by_analysis(results: Iterable[QualityResult]) -> dict[str, Verdict]:
    """For each analysis the worst of its own results and of those that concern the whole recording.

    What concerns the whole and could not be measured (drift in one pass, what nobody said of a file) does not lower a
    verdict: it stands in the results, and would be the verdict of every recording.
    """
    told = [one for one in results if one.analysis is not None or one.verdict is not Verdict.NOT_MEASURABLE]
    common = [one.verdict for one in told if one.analysis is None]
    names = dict.fromkeys(one.analysis for one in told if one.analysis is not None)
    return {name: worst([*common, *(one.verdict for one in told if one.analysis == name)]) for name in names}
