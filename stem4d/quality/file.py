"""A judgement on recorded data whose plan nobody gave: every analysis, from the frames and whatever else is known."""

from collections.abc import Iterator
from dataclasses import fields, replace

from stem4d import optics
from stem4d.calibrate.disk import DiskFit
from stem4d.calibrate.pixels import Mask
from stem4d.detector import DetectorFacts
from stem4d.maps import RunMaps
from stem4d.plan import QualityPolicy
from stem4d.quality.beam import check_beam
from stem4d.quality.between import compare
from stem4d.quality.centring import check_centring
from stem4d.quality.contamination import check_contamination
from stem4d.quality.counting import pedestal
from stem4d.quality.damage import check_damage
from stem4d.quality.descan import check_descan
from stem4d.quality.dose import check_dose
from stem4d.quality.drift import check_drift
from stem4d.quality.frames import check_frames
from stem4d.quality.grade import result
from stem4d.quality.pixels import check_dead_pixels
from stem4d.quality.rate import check_rate
from stem4d.quality.regions import IN_WORDS, FileKnowledge, PatternGeometry, Subject, mask_for, wanted_of_file
from stem4d.quality.sampling import check_sampling
from stem4d.quality.saturation import check_saturation
from stem4d.quality.scan import check_scan
from stem4d.quality.values import NotCounts, check_values, standing_on, with_doubt
from stem4d.quality.wrap import check_wrap
from stem4d.verdict import QualityResult, Verdict

__all__ = ["FileKnowledge", "judge_file"]

RADIUS_TOLERANCE = 0.05
"""Disk radius against convergence angle over angle per pixel: more is a wrong number, not a fit's error (habit)."""
OF_THE_BEAM = ("beam.", "dose.", "descan.")
"""Metrics that take counts for the beam's, by the beginning of their names."""
NEEDED_TO_JUDGE = {
    "mrad_per_pixel": "recorded angles, resolution",
    "scan_step_nm": "drift",
    "beam_energy_kev": "resolution",
    "convergence_semi_angle_mrad": "counting noise in mrad",
    "defocus_nm": "overlap of the probes",
    "dwell_time_us": "counting rate",
    "max_count_rate_per_px_hz": "counting rate",
}


def judge_file(
    maps: RunMaps,
    disk: DiskFit,
    bad_pixels: Mask | None,
    known: FileKnowledge,
    policy: QualityPolicy | None = None,
    detector: DetectorFacts | None = None,
    not_counts: NotCounts | None = None,
) -> tuple[QualityResult, ...]:
    """Judge a recording for every kind of analysis.

    Parameters
    ----------
    maps : RunMaps
        Of the whole file, its centre of mass best taken around the disk.
    disk : DiskFit
        What ``find_disk`` made of its sum or mean pattern.
    bad_pixels : ndarray of bool, shape (det_y, det_x), or None
        Pixels that are left out.
    known : FileKnowledge
        What the file or its user says. A missing angle per pixel is taken from the disk and the convergence angle.
    policy : QualityPolicy, optional
        Limits; the defaults of a plan where absent.
    detector : DetectorFacts, optional
        What is known of the detector, where somebody named it.
    not_counts : NotCounts, optional
        How the maps were made of values that are no counts.

    Returns
    -------
    tuple of QualityResult
        Besides the checks of a run: ``scale.disk_radius`` where two angles can be held against each other, and
        ``knowledge`` for what could not be judged because nobody said it, and, of values that are no counts,
        ``pixels.invalid`` and ``frames.negative``.
    """
    results = tuple(_by_disk(_judged(maps, disk, bad_pixels, known, policy, detector), disk))
    if not_counts is None:
        stands_on = pedestal(maps, mask_for(maps.sum_pattern.shape, bad_pixels))
        return results if stands_on is None else tuple(standing_on(results, stands_on))
    return (*with_doubt(results, not_counts), *check_values(not_counts))


def _judged(
    maps: RunMaps,
    disk: DiskFit,
    bad_pixels: Mask | None,
    known: FileKnowledge,
    policy: QualityPolicy | None,
    detector: DetectorFacts | None,
) -> tuple[QualityResult, ...]:
    shape = maps.sum_pattern.shape
    geometry = None
    completed = known
    if disk.ok:
        if known.mrad_per_pixel is None and known.convergence_semi_angle_mrad is not None:
            completed = replace(known, mrad_per_pixel=known.convergence_semi_angle_mrad / disk.radius_px)
        geometry = PatternGeometry(disk.centre_px, disk.radius_px, completed.mrad_per_pixel)
    subject = Subject(
        wanted=wanted_of_file(geometry, shape),
        geometry=geometry,
        fit=disk,
        bad_pixels=mask_for(shape, bad_pixels),
        full_scale=maps.full_scale,
        policy=policy or QualityPolicy(),
        known=completed,
        detector=detector,
    )
    between = compare((maps,), subject)
    return (
        *check_frames((maps,)),
        check_dead_pixels(maps, subject),
        *check_saturation(maps, subject),
        *check_rate(maps, subject),
        *check_wrap(maps, subject),
        *check_centring(maps, subject),
        *check_descan(maps, subject),
        *check_drift((maps,), (0.0,), subject),
        *check_scan((maps,), subject),
        *check_sampling(subject),
        *check_dose((maps,), subject),
        *check_beam((maps,), (0.0,), None),
        *check_damage(between, subject),
        *check_contamination(between, subject),
        *_scale(disk, known),
        *_not_known(known, detector),
    )


def _by_disk(results: tuple[QualityResult, ...], disk: DiskFit) -> Iterator[QualityResult]:
    """The same results; where no disk was found, what was counted need not be the beam's, and none of it passes."""
    for one in results:
        if disk.ok or one.verdict is not Verdict.PASS or not one.metric.startswith(OF_THE_BEAM):
            yield one
        else:
            text = f"{one.message} No disk was found ({disk.reason}): whether that is the beam is not known."
            yield one.model_copy(update={"verdict": Verdict.NOT_MEASURABLE, "message": text})


def _scale(disk: DiskFit, known: FileKnowledge) -> Iterator[QualityResult]:
    """Whether the disk is as large as the angles say, where they are known independently of each other."""
    if known.mrad_per_pixel is None or known.convergence_semi_angle_mrad is None or not disk.ok:
        return
    expected = optics.disk_radius_px(known.convergence_semi_angle_mrad, known.mrad_per_pixel)
    off = abs(disk.radius_px / expected - 1)
    text = f"The disk's radius is {disk.radius_px:.2f} px; {expected:.2f} px follow from the angles."
    verdict = Verdict.PASS if off <= RADIUS_TOLERANCE else Verdict.WARN
    if verdict is Verdict.WARN:
        text += " The angle per pixel or the convergence angle is wrong."
    error = disk.radius_uncertainty_px / expected
    yield result("scale.disk_radius", None, verdict, text, value=off, limit=RADIUS_TOLERANCE, uncertainty=error)


def _not_known(known: FileKnowledge, detector: DetectorFacts | None) -> Iterator[QualityResult]:
    # A named detector says what it can count.
    missing = [field.name for field in fields(known) if getattr(known, field.name) is None]
    if detector is not None and "max_count_rate_per_px_hz" in missing:
        missing.remove("max_count_rate_per_px_hz")
    if missing:
        matters = sorted({one for name in missing for one in NEEDED_TO_JUDGE[name].split(", ")})
        text = f"Not judged in full: {', '.join(matters)}. Nobody said {', '.join(IN_WORDS[name] for name in missing)}."
        yield result("knowledge", None, Verdict.NOT_MEASURABLE, text, value=float(len(missing)), limit=0.0)
