"""Every limit and assumption of the plan rules as data, each with its source: the one place to change a figure.

A limit is looked up as ``rule/kind of analysis`` first, then as ``rule``. Its figures are multiples of a reference
quantity where ``of`` names one. "habit" is common practice and not measured; "lit." is from the literature.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from stem4d import precision
from stem4d.dose import BUDGET_TOLERANCE, SPECIMEN_CREST
from stem4d.plan import Analysis, SensitivityClass, Strain

GUIDE = "DECTRIS, what constitutes a good 4D STEM dataset"
"""The article that the rules grew from."""
ANGLE_TOLERANCE = 0.02
"""Angles are not known better before calibration: 2 % on every angular limit."""


@dataclass(frozen=True)
class Limit:
    """A hard limit fails the plan, a soft one warns; the allowance lies beyond the stated figure."""

    sense: Literal["at most", "at least"]
    source: str
    hard: float | None = None
    soft: float | None = None
    of: str = ""
    tolerance: float = 0.0

    @property
    def wanted(self) -> float:
        """The stricter figure, which a remedy aims at."""
        figure = self.soft if self.soft is not None else self.hard
        if figure is None:
            raise ValueError("a limit needs a hard or a soft figure")
        return figure


def _at_most(source: str, *, hard: float | None = None, soft: float | None = None, of: str = "") -> Limit:
    return Limit("at most", source, hard=hard, soft=soft, of=of)


def _at_least(source: str, *, hard: float | None = None, soft: float | None = None, of: str = "") -> Limit:
    return Limit("at least", source, hard=hard, soft=soft, of=of)


def _angle(source: str, of: str, *, hard: float | None = None, soft: float | None = None) -> Limit:
    return Limit("at most", source, hard=hard, soft=soft, of=of, tolerance=ANGLE_TOLERANCE)


_ABBE = "Abbe: an aperture α passes periods down to λ/(2α)"
_FULL = "counts above full scale are lost; habit: the whole disk counts for this analysis"
_LOSS = "detector's 10 % loss point"
_ALIGN = "habit: a centring aid of the projector reaches a twentieth of the array"

LIMITS: Mapping[str, Limit] = {
    # Reciprocal space: rules 1 to 4
    "collection_angle": _angle("angles that are not recorded cannot be summed", "usable angle", hard=1),
    "highest_angle": _angle("what scatters further is not recorded", "usable angle", hard=1),
    "disk_on_detector": _at_least("habit: room for descan and deflection", hard=2),
    "pattern_centred": _at_most(_ALIGN, hard=0.2, soft=0.05, of="half the array"),
    "aperture_resolution/virtual": _angle(_ABBE, "target period", hard=1),
    "aperture_resolution/com": _angle(_ABBE, "target period", hard=1),
    "aperture_resolution/tcbf": _angle(f"{_ABBE}; full transfer to λ/α", "target period", hard=1, soft=0.5),
    "probe_size": _at_most("the probe is the image's point spread", soft=1, of="target period"),
    "recorded_angle": _angle("the reconstruction's half-period is λ/(2 θmax)", "target half-period", hard=1),
    "reflections_recorded": _angle("a disk that is cut has no position", "usable angle", hard=1),
    "probe_in_feature": _at_most("a probe averages over its diameter", hard=1, of="smallest feature"),
    "window": _at_least("the window must hold the probe; twice for freedom", hard=1, soft=2),
    "disk_sampling/tcbf": _at_least("habit: a disk 10 px across gives about 80 tilts", soft=5),
    "disk_sampling/com": _at_least("habit", soft=5),
    "disk_sampling/strain": _at_least("habit", soft=4),
    "defocus_blur": _at_most("shifts inside one pixel blur its tilt image", soft=0.5, of="target period"),
    "disks_apart": _at_most("2α < λ/d keeps the disks apart", soft=1, of="distance of the disks"),
    "reflections_apart": _at_least("habit", soft=2),
    # Intensity and dose: rules 6 to 11
    "counter_full_scale/virtual": _at_most(_FULL, hard=1, of="full scale"),
    "counter_full_scale/com": _at_most(_FULL, hard=1, of="full scale"),
    "counter_full_scale/tcbf": _at_most(_FULL, hard=1, of="full scale"),
    "counter_full_scale/ptychography": _at_most(_FULL, hard=1, of="full scale"),
    "counter_full_scale/strain": _at_most("origin then from Friedel pairs", soft=1, of="full scale"),
    "counter_full_scale/orientation": _at_most("origin then from Friedel pairs", soft=1, of="full scale"),
    "bragg_full_scale": _at_most("a clipped disk has no position", hard=1, of="full scale"),
    "count_rate/virtual": _at_most(_LOSS, hard=1, of="loss point"),
    "count_rate/com": _at_most(_LOSS, hard=1, of="loss point"),
    "count_rate/tcbf": _at_most(_LOSS, hard=1, of="loss point"),
    "count_rate/ptychography": _at_most(_LOSS, hard=1, of="loss point"),
    "count_rate/strain": _at_most(_LOSS, soft=1, of="loss point"),
    "count_rate/orientation": _at_most(_LOSS, soft=1, of="loss point"),
    "bragg_count_rate": _at_most("a disk that loses counts is pulled to its dim side", hard=1, of="loss point"),
    "total_rate": _at_most("events beyond it are dropped", hard=1, of="rate of the whole detector"),
    "damage_rate": _at_most("detector's stated damage limit", hard=1, of="damage limit"),
    "com_noise": _at_most("shot noise of the centre of mass", hard=1, of="smallest deflection"),
    "strain_noise": _at_most("shot noise of the disk positions", hard=1, of="target strain"),
    "dose_limited_period": _at_most("Rose criterion", soft=1, hard=2, of="target period"),
    "electrons_per_pattern/tcbf": _at_least("habit", soft=100),
    "electrons_per_pattern/ptychography": _at_least("habit", soft=100),
    "electrons_per_pattern/orientation": _at_least("habit", soft=500),
    "noise_floor": _at_most("a signal below the noise of one pattern is not seen in it", hard=1, of="signal"),
    "fluence_budget": Limit("at most", "the plan's own budget", hard=1, of="budget", tolerance=BUDGET_TOLERANCE),
    "fluence_class": _at_most("habit", soft=0.5, of="upper figure of the specimen's class"),
    "optimum_exposure": _at_most("Grant and Grigorieff, eLife 4 (2015)", soft=2.5, of="critical exposure"),
    "recorded_share": _at_least("habit: dose that is not recorded is wasted", soft=90),
    "pass_fluence": _at_least("habit of movie alignment in cryo-microscopy", soft=0.5),
    "source_size/virtual": _at_most("the probe is the image's point spread", soft=1, of="target period"),
    "source_size/com": _at_most("the probe is the image's point spread", soft=1, of="target period"),
    "source_size/ptychography": _at_most("one mode describes a coherent probe", soft=1, of="diffraction FWHM"),
    # Real space and time: rules 12 to 16, 18
    "scan_step/virtual": _at_most("Nyquist", soft=0.5, of="target period"),
    "scan_step/com": _at_most("Nyquist", soft=0.5, of="target period"),
    "scan_step/tcbf": _at_most("Nyquist after upsampling", soft=0.5, of="target period x upsampling"),
    "scan_step/strain": _at_most("Nyquist", soft=0.5, of="smallest feature"),
    "scan_step/orientation": _at_most("Nyquist", soft=0.5, of="smallest feature"),
    "step_within_probe": _at_most("gaps between probes are not imaged", soft=1, of="probe size"),
    "probe_overlap": _at_least("habit; unstable below 40 % in simulation, arXiv 2502.00762", hard=40, soft=60),
    "areal_oversampling": _at_least("successes cluster near 100, failures near 67", soft=80),
    "ronchigram_magnification": _at_least("successes cluster near 6.5, failures near 3.1", soft=4.5),
    "step_within_patch": _at_most("habit", soft=1 / 3, of="illuminated patch"),
    "field_of_view": _at_least("what the question asks for", hard=1, of="required field"),
    "depth_of_field": _at_least("λ/α²", soft=1, of="thickness and height variation"),
    "single_slice": _at_most("5.2 h²/λ (lit.)", soft=1, hard=3, of="depth of a single slice"),
    "drift_of_field": _at_most("habit", soft=1, hard=5),
    "drift_of_field/ptychography": _at_most("habit: smooth drift is fitted as affine", soft=10),
    "drift_in_line": _at_most("habit", soft=0.1, of="step"),
    "drift_of_feature": _at_most("habit", soft=0.5, of="smallest feature"),
    "disk_space": _at_most("habit: a full disk kills the writer", hard=1, of="free space less the reserve"),
    "scan_time": _at_most("the plan's own time", hard=1, of="time available"),
    "write_rate": _at_most("what the disk takes for hours", hard=1, soft=0.5, of="write rate of the disk"),
    # Instrument and calibration: rules 5, 17, 19 to 24
    "spot": _at_most("the instrument file", hard=1, of="largest current of the spots"),
    "detector_energy": _at_most("the instrument file", hard=1, of="nearest end of the range"),
    "threshold": _at_most("habit: above half, electrons that share their charge are lost", soft=0.5, hard=1, of="E"),
    "defocus_unit": _at_most("habit: no scan needs a probe wider than its field several times over", soft=5),
    "defocus_unit/absolute": _at_most("habit: no 4D-STEM probe is wider than a micrometre", soft=1e4),
    "step_unit/large": _at_most("habit", soft=100),
    "step_unit/small": _at_least("habit: a thousand steps within one probe", soft=1e-3),
    "current_unit/large": _at_most("habit: 20 nA is a microprobe", soft=2e4),
    "current_unit/small": _at_least("habit: a beam this weak is told from its noise by nobody", soft=0.1),
    "camera_length_unit": _at_most("habit: no projector shows 600 mrad", soft=600),
    "camera_length_unit/stated": _at_most("habit: projectors are within tens of per cent of their label", soft=3),
    "beam_energy": _at_most("high tension as listed, to its display", hard=0.1),
    "aperture": _at_most("α of the listed aperture", hard=100 * ANGLE_TOLERANCE),
    "camera_length": _at_most("camera length as listed", hard=1),
    "frame_rate": _at_most("detector's frame rate", hard=1, of="highest frame rate"),
    "dead_time": _at_most("detector's dead time", hard=1, of="dwell less dead time"),
    "defocus_range": _at_most("the instrument file", hard=1, of="nearest end of the range"),
    "current_range": _at_most("the instrument file", hard=1, of="nearest end of the range"),
    "dwell_range": _at_most("the instrument file", hard=1, of="nearest end of the range"),
    "scan_range": _at_most("the instrument file", hard=1, of="largest field"),
    "focus_area_reach": _at_most("the instrument file", hard=1, of="reach of the beam shift"),
    "focus_area_apart": _at_least("habit of low-dose work", hard=1, of="twice the field and the probe"),
    "focus_area_budget": _at_least("what the fewest scans there give", hard=1, of="fluence of the fewest scans"),
    "angle_scale": _at_most("habit", soft=100 * ANGLE_TOLERANCE),
    "angle_scale/ptychography": _at_most("as the step without affine refinement", soft=1, hard=2),
    "strain_scale/region": _at_most("a scale error scales the strain", soft=1, of="target strain"),
    "strain_scale/absolute": _at_most("a scale error is a strain", hard=1, of="target strain"),
    "step_scale": _at_most("habit", soft=2),
    "step_scale/ptychography": _at_most("without affine refinement", soft=1, hard=2),
    "step_scale/refined": _at_most("with affine refinement", soft=1, hard=5),
    "realignment": _at_most("a condenser aperture is aligned by a person", hard=100 * ANGLE_TOLERANCE),
    "descan_residual/strain": _at_most("habit: the origin is found in each pattern", soft=0.5, of="disk radius"),
    "descan_residual/fixed": _at_most("a moving origin is a strain", hard=0.5, of="target strain"),
    "descan_residual/com": _at_most("habit", soft=0.3, of="smallest deflection"),
    "descan_residual/tcbf": _at_most(
        "tilts mixed by less than half the period", soft=0.5, of="target period over the tilt images' shift per pixel"
    ),
    "descan_residual/stated": _at_most("the plan's quality policy", hard=1, of="max_descan_px"),
    "descan_residual/ptychography": _at_most("habit", soft=0.5),
    "descan_residual/virtual": _at_most("the disk's edge must not cross a mask's", soft=1, of="room at the edge"),
    "defocus_known/ptychography": _at_most("a starting estimate must converge", hard=1),
    "defocus_known/tcbf": _at_most("a starting estimate must converge", soft=1),
    "calibrations_present": _at_most("an analysis is no better than its calibration", hard=0),
}


@dataclass(frozen=True)
class Assumed:
    """A figure that the plan cannot know."""

    value: float
    source: str


CREST = Assumed(SPECIMEN_CREST, "habit, 2 to 5 on a specimen; the first rows measure it")
BRIGHTEST_BRAGG = Assumed(0.3, "habit: brightest Bragg disk over the direct beam, in crystals tens of nm thick")
BRAGG_SHARE = Assumed(precision.BRAGG_SHARE, "habit: part of the electrons in each disk that is tracked")
BRAGG_DISKS = Assumed(precision.BRAGG_DISKS, "habit: disks tracked in each pattern")
FEW_ELECTRONS = Assumed(100, "habit: a pattern with fewer may mean a current in nA")
LARGEST_STRAIN = Assumed(0.02, "habit: largest strain that is mapped")
COHERENT_MODES = Assumed(3, "habit: probe modes that take up a large source")
RESERVE_BYTES = Assumed(2e9, "kept free where the setting disk_reserve_gb says nothing else")

CLASS_UPPER_E_PER_A2: Mapping[SensitivityClass, Assumed] = {
    SensitivityClass.VITRIFIED: Assumed(50, "20 to 50 e/Å²"),
    SensitivityClass.MOF_COF: Assumed(100, "about 10 to 100 e/Å²"),
    SensitivityClass.PEROVSKITE_ZEOLITE: Assumed(1e3, "1e2 to 1e3 e/Å² (habit)"),
    SensitivityClass.ORGANIC_CRYSTAL: Assumed(100, "10 to 100 e/Å² (habit)"),
    SensitivityClass.BATTERY_OXIDE: Assumed(1e4, "1e3 to 1e4 e/Å² (habit)"),
    SensitivityClass.ROBUST: Assumed(1e7, "1e4 to 1e7 e/Å² below knock-on (habit)"),
}

CALIBRATION_NEEDS: Mapping[str, str] = {
    "centre": "vacuum_hole",
    "mrad_per_pixel": "reference_specimen",
    "ellipticity": "reference_specimen",
    "rotation": "this_area",
    "descan": "vacuum_hole",
    "scan_step": "reference_specimen",
    "defocus": "this_area",
}
"""Kinds of calibration and what making one takes."""
NEED_IN_WORDS: Mapping[str, str] = {
    "this_area": "on the plan's own area, out of its budget",
    "vacuum_hole": "in vacuum",
    "reference_specimen": "on a reference specimen",
    "attended": "with a person at the instrument",
    "nothing": "worked out of other calibrations",
}
"""What making one takes, for people."""

CALIBRATIONS_FOR: Mapping[str, tuple[str, ...]] = {
    "virtual": ("centre", "mrad_per_pixel", "scan_step"),
    "com": ("centre", "mrad_per_pixel", "rotation", "descan", "scan_step"),
    "strain": ("mrad_per_pixel", "rotation", "descan", "scan_step"),
    "orientation": ("centre", "mrad_per_pixel", "rotation", "scan_step"),
    "tcbf": ("centre", "mrad_per_pixel", "rotation", "defocus", "scan_step"),
    "ptychography": ("centre", "mrad_per_pixel", "rotation", "descan", "defocus", "scan_step"),
}
"""Calibrations each analysis needs; `calibrations_for` knows what absolute strain needs beside them."""

EXPIRED_BY: Mapping[str, tuple[str, ...]] = {
    "optics.camera_length_mm": ("centre", "mrad_per_pixel", "ellipticity", "rotation", "descan"),
}
"""Calibrations that a new setting makes invalid."""


def calibrations_for(kind: str, reference: str = "") -> tuple[str, ...]:
    """Calibrations that a kind of analysis needs, for strain with its reference; none for a kind that is not known."""
    needed = CALIBRATIONS_FOR.get(kind, ())
    return (*needed, "ellipticity") if kind == "strain" and reference == "absolute" else needed


def calibrations_of(analysis: Analysis) -> tuple[str, ...]:
    """Calibrations that an analysis of a plan needs."""
    return calibrations_for(analysis.kind, analysis.reference if isinstance(analysis, Strain) else "")
