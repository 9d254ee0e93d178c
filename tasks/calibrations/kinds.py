"""The kinds of calibration: what each needs, which come first, what it holds for and how long."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from difflib import get_close_matches
from graphlib import TopologicalSorter
from typing import Literal

from stem4d.errors import BadInput
from stem4d.instrument import InstrumentFacts
from stem4d.mode import Setting, mode_key, mode_settings
from stem4d.plan import Plan
from stem4d.rules.limits import calibrations_of
from tasks.calibrations.exposed import as_measured

Need = Literal["this_area", "vacuum_hole", "reference_specimen", "attended", "nothing"]
"""What measuring takes; ``nothing`` is worked out of other calibrations."""

SESSION = timedelta(hours=12)
"""Alignment, descan and current hold for a night."""
LENSES = timedelta(days=7)
"""Camera length and scan amplitude stay for weeks; a week bounds what hysteresis and service may change."""
SPECIMEN = timedelta(minutes=30)
"""Focus and drift belong to a place of a specimen that moves: habit."""
_PROJECTOR = ("beam_energy_kev", "camera_length_mm", "projector_mode")
_CONDENSER = ("beam_energy_kev", "aperture", "convergence_semi_angle_mrad", "condenser_mode")
_DETECTOR = ("detector", "detector_shape")

FIRST_OF_INTEGRATING = ("dark_flat", "counts_per_electron")
"""What an integrating detector's other calibrations rest on, in the order of measuring."""


@dataclass(frozen=True)
class Kind:
    """One kind of calibration."""

    name: str
    title: str
    unit: str
    needs: Need
    group: str
    """What is measured together, from the same recordings: ``tasks.calibrations.measure.GROUPS``."""
    after: tuple[str, ...]
    """Kinds that must be known before."""
    settings: tuple[str, ...]
    """What it holds for, by the names of ``stem4d.mode.mode_settings``."""
    lifetime: timedelta
    how: str
    """How it is measured, in words."""
    uses: tuple[str, ...] = ()
    """Kinds that make it better where they are known: measured before it where both are."""

    def needed(self, *, integrating: bool = False) -> tuple[str, ...]:
        """Kinds that must be known before, of a counting or an integrating detector.

        Nothing that an integrating detector counts is a number of electrons without its dark level and its gain.
        """
        if not integrating or self.needs == "nothing":
            return self.after
        if self.name in FIRST_OF_INTEGRATING:
            return FIRST_OF_INTEGRATING[: FIRST_OF_INTEGRATING.index(self.name)]
        return (*FIRST_OF_INTEGRATING, *self.after)


_ALL = (
    Kind(
        "pixel_mask", "Bad pixels", "px", "vacuum_hole", "vacuum", (),
        (*_DETECTOR, "threshold_kev", "beam_energy_kev"), SESSION,
        "pixels unlike all their neighbours in mean and maximum of a vacuum scan",
    ),
    Kind(
        "centre", "Disk centre", "px", "vacuum_hole", "vacuum", ("pixel_mask",),
        (*_CONDENSER, "camera_length_mm", "projector_mode", *_DETECTOR), SESSION,
        "fit of the disk's edge in the mean pattern of a vacuum scan, after correction",
    ),
    Kind(
        "descan", "Descan", "mrad, mrad/nm, px", "vacuum_hole", "vacuum", ("pixel_mask", "centre"),
        (*_CONDENSER, "camera_length_mm", "projector_mode", *_DETECTOR, "field_nm", "scan_rotation_deg",
         "beam_shift_nm"), SESSION,
        "robust plane through the disk's positions over the plan's field in vacuum, corrected and measured again",
    ),
    Kind(
        "current", "Beam current", "", "vacuum_hole", "vacuum", ("pixel_mask",),
        ("beam_energy_kev", "spot", "aperture", "convergence_semi_angle_mrad", "probe_current_pa", "gun_flashed_at"),
        SESSION, "counts of a vacuum pattern against those that the commanded current makes",
    ),
    Kind(
        "counts_per_electron", "Counts per electron", "counts/e", "vacuum_hole", "gain", ("pixel_mask",),
        (*_DETECTOR, "threshold_kev", "beam_energy_kev", "bit_depth"), LENSES,
        "variance against mean of the pixels over repeated frames in vacuum",
    ),
    Kind(
        "dark_flat", "Dark and flat", "counts", "vacuum_hole", "dark_flat", (),
        (*_DETECTOR, "exposure_time_us", "beam_energy_kev"), SESSION,
        "of an integrating detector: frames with the beam blanked, and as many of the disk in vacuum for the response",
    ),
    Kind(
        "mrad_per_pixel", "Angle per pixel", "mrad/px", "reference_specimen", "scale", ("pixel_mask", "centre"),
        (*_PROJECTOR, *_DETECTOR, "pixel_pitch_um"), LENSES,
        "rings or spots of a known crystal; else the disk of an angle measured at another camera length",
    ),
    Kind(
        "ellipticity", "Elliptic distortion", "", "reference_specimen", "scale", ("pixel_mask", "centre"),
        (*_PROJECTOR, *_DETECTOR, "pixel_pitch_um"), LENSES, "rings or spots of a known crystal",
    ),
    Kind(
        "convergence_semi_angle", "Convergence semi-angle", "mrad", "nothing", "angle", ("centre", "mrad_per_pixel"),
        _CONDENSER, SESSION, "disk radius times an angle per pixel that was measured on a reference specimen",
    ),
    Kind(
        "rotation", "Rotation of scan to detector", "deg", "this_area", "rotation", ("pixel_mask", "centre", "descan"),
        ("scan_rotation_deg", *_PROJECTOR, "detector"), SESSION,
        "the angle at which the centre of mass has no curl",
    ),
    Kind(
        "scan_step", "Scan step", "nm", "reference_specimen", "step", ("pixel_mask", "centre"),
        ("field_nm", "magnification", "scan_rotation_deg", "beam_energy_kev"), LENSES,
        "the known lattice of a reference specimen in virtual images",
    ),
    Kind(
        "defocus", "Defocus and astigmatism", "nm", "this_area", "tilts", ("pixel_mask", "centre", "descan"),
        (*_CONDENSER, "defocus_nm", "sample", "area"), SPECIMEN,
        "shifts of the tilted bright-field images against the angle",
        uses=("mrad_per_pixel", "ellipticity", "convergence_semi_angle", "scan_step"),
    ),
    Kind(
        "drift", "Drift", "nm/min", "this_area", "drift", ("pixel_mask", "centre"), ("sample", "area"), SPECIMEN,
        "shifts between repeated fast scans", uses=("scan_step",),
    ),
)  # fmt: skip

KINDS: Mapping[str, Kind] = {kind.name: kind for kind in _ALL}
"""Every kind by its name."""

FOR_EVERY_RUN = ("pixel_mask", "centre", "descan", "current")
"""A run that cannot have these measures them, or fails: without them no pattern is worth its dose."""


def check_kinds(names: Iterable[str]) -> tuple[str, ...]:
    """The names, once each; raises `BadInput` for one that is no kind."""
    wanted = tuple(dict.fromkeys(names))
    for name in wanted:
        if name not in KINDS:
            near = get_close_matches(name.lower(), KINDS, 1, 0.5)
            raise BadInput(
                field="KIND",
                value=name,
                limit=f"one of {', '.join(KINDS)}",
                remedy="Separate kinds by spaces" if "," in name else f"Did you mean {near[0]}?" if near else "",
            )
    return wanted


def kinds_for(plan: Plan) -> tuple[str, ...]:
    """The kinds that a plan's analyses need, in the order they are measured in."""
    wanted = {*FOR_EVERY_RUN, *(kind for each in plan.analyses for kind in calibrations_of(each))}
    return tuple(kind for kind in KINDS if kind in wanted)


def in_order(wanted: Iterable[str], known: Iterable[str], *, integrating: bool = False) -> tuple[str, ...]:
    """The groups to measure for some kinds: those of what must be known before them too, each after its own.

    ``known`` are kinds that need not be measured. Of a detector that integrates, two more must be known.
    """
    have, todo, graph = set(known), list(wanted), TopologicalSorter[str]()
    seen: set[str] = set()
    while todo:
        kind = KINDS[todo.pop()]
        if kind.name in seen:
            continue
        seen.add(kind.name)
        before = [each for each in kind.needed(integrating=integrating) if each not in have]
        graph.add(kind.group, *(KINDS[each].group for each in before if KINDS[each].group != kind.group))
        todo += before
    for kind in KINDS.values():
        if kind.name in seen:
            graph.add(kind.group, *(KINDS[each].group for each in kind.uses if each in seen))
    # Of groups that may come at once, always in one order: the rotation before the drift, which takes minutes.
    places = [kind.group for kind in KINDS.values()]
    order: list[str] = []
    graph.prepare()
    while graph.is_active():
        ready = sorted(graph.get_ready(), key=places.index)
        order += ready
        graph.done(*ready)
    return tuple(order)


def mode_keys(plan: Plan, facts: InstrumentFacts, told: Mapping[str, Setting]) -> dict[str, str]:
    """What a calibration of each kind holds for; it holds for its own key and for no other.

    Counter and exposure are those that calibrations are measured with, not those of the plan.
    """
    settings = mode_settings(as_measured(facts, plan), facts, told)
    return {name: mode_key(settings, kind.settings) for name, kind in KINDS.items()}
