"""What a reconstruction is worth: figures, pictures and a verdict."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from stem4d import optics
from stem4d.analyse.method import Given, Outcome, Picture
from stem4d.analyse.ptychography import limits
from stem4d.analyse.ptychography.engine import Problem, State
from stem4d.analyse.ptychography.field import flat, scanned_field
from stem4d.analyse.ptychography.fourier_ring import aligned, ends_at, ring_correlation
from stem4d.analyse.ptychography.geometry import defocus_change_nm, pixel_a, to_object_px
from stem4d.analyse.ptychography.modes import shares
from stem4d.analyse.ptychography.options import PtychographyOptions
from stem4d.analyse.ring_correlation import FIXED

Floats = npt.NDArray[np.floating[Any]]

LEAST_EXPLAINED = 0.9
"""Part of the first iteration's misfit beyond counting noise that has to be gone after the last."""
LEAST_TOLD = 0.5
"""Part of an empty specimen's misfit beyond counting noise that has to be gone for patterns that a half has not
seen (habit)."""
MOST_MISFIT = 1.1
"""Misfit over what counting alone makes of it, beyond which much in the patterns is not described (habit)."""
DIVERGED, STILL_FALLING = 1.02, 0.02
"""Last misfit over the lowest, and part of the last misfit that the last iteration took away."""
MOST_SATURATED = 0.01
"""Part of the counts in pixels at full scale, which are then not known."""
LEAST_USABLE = 0.95
UNCERTAINTY_SPREAD_PX = 4.0
"""Over which squared differences of the halves are averaged."""
DEFOCUS_SIGMAS = 3.0


@dataclass(frozen=True)
class Halves:
    """Two reconstructions of different patterns, and how each tells the patterns that it has not seen."""

    one: State
    other: State
    unseen: float
    """Misfit over that of counting."""
    empty: float
    """The same without a specimen."""


@dataclass(frozen=True)
class Found:
    """All that a reconstruction leaves."""

    size: int
    usable: npt.NDArray[np.bool_]
    saturated: float
    problem: Problem
    start: State
    state: State
    misfit: Floats
    """(used, 2), of the final state."""
    halves: Halves | None


def outcome(given: Given, options: PtychographyOptions, found: Found) -> Outcome:
    """Figures, pictures and verdict of a reconstruction."""
    scan_shape = (found.usable.shape[0], found.usable.shape[1])
    step = pixel_a(given, found.size)
    first = _first_px(found, given)
    object_ = scanned_field(given, found.state.image, first, found.size, scan_shape)
    figures, errors = _figures(given, found), found.state.errors
    sigma = None
    doubts = [*limits.doubts(given, options, found.size, float(figures["electrons_per_pattern"] or 0))]
    if found.halves is not None:
        one, other = (
            scanned_field(given, each.image, first, found.size, scan_shape)
            for each in (found.halves.one, found.halves.other)
        )
        other = aligned(one, other)
        sigma = _phase_sigma(one, other)
        rings = ring_correlation(one, other, step)
        for name, threshold in (("frc_0143", FIXED), ("frc_half_bit", rings.half_bit)):
            end = ends_at(rings, threshold)
            figures[f"{name}_full_period_a"] = end.full_period_a
            figures[f"{name}_half_period_a"] = end.full_period_a / 2
            figures[f"{name}_reached"] = end.reached
        figures["misfit_unseen"] = found.halves.unseen
        figures["unseen_explained"] = told = _told(found.halves)
        if told < LEAST_TOLD:
            doubts.append(
                f"each half explains {told:.0%} of what the patterns of the other one show of a specimen: geometry, "
                "defocus or coherence are wrong, or the electrons too few"
            )
        doubts += _ring_doubts(given, options, figures)
    doubts += _doubts(given, found, figures)
    phase = np.angle(object_)
    low, high = (float(each) for each in np.percentile(phase, (0.5, 99.5)))
    figures |= {"phase_range_rad": high - low, "phase_rms_rad": float(phase.std())}
    if sigma is not None:
        figures["phase_uncertainty_rad"] = noise = float(np.sqrt(np.mean(sigma**2)))
        if noise > float(phase.std()):
            doubts.append("the phase is no larger than its noise")
    said = (
        f"Phase of {high - low:.3g} rad over {object_.shape[0]} x {object_.shape[1]} px of {step:.3g} Å; "
        f"misfit {errors[-1]:.3g} times that of counting, {errors[0]:.3g} in the first iteration"
    )
    if found.halves is not None:
        said += f"; two halves agree to a half-period of {figures['frc_0143_half_period_a']:.3g} Å"
    if options.probe_modes > 1:
        said += "; shares of the modes stay near where they began and are no measure of coherence"
    words = f"{said}. {_taken_as_given(given, options)}"
    reason = f"{words} Doubtful: {'; '.join(doubts)}." if doubts else words
    return Outcome("doubtful" if doubts else "good", reason, figures, _pictures(given, found, object_, sigma, step))


def _taken_as_given(given: Given, options: PtychographyOptions) -> str:
    """What the figures do not test: a wrong one of these gives a picture that looks as good."""
    depth = optics.depth_of_field_a(given.beam_energy_kev, given.convergence_semi_angle_mrad) / 10
    refined = options.affine_refinement or options.position_refinement
    scan = "The scale of pictures" if refined else "The scan's step"
    return f"{scan} and the angle per pixel are taken as given, the defocus to some {depth / 2:.2g} nm."


def _figures(given: Given, found: Found) -> dict[str, float | int | str | bool | None]:
    errors, state = found.state.errors, found.state
    electrons = float((np.abs(found.start.probe.astype(np.complex128)) ** 2).sum())
    moved = state.positions_px - found.problem.positions_px
    moved_a = np.linalg.solve(to_object_px(given, found.size), moved.T)
    part = shares(state.probe)
    told: dict[str, float | int | str | bool | None] = {
        "patterns": len(found.problem.used),
        "detector_used_px": found.size,
        "pixel_a": pixel_a(given, found.size),
        "iterations": len(errors),
        "misfit_ratio": float(found.misfit[:, 0].sum(dtype=np.float64) / found.misfit[:, 1].sum(dtype=np.float64)),
        "misfit_by_iteration": " ".join(f"{each:.4g}" for each in errors),
        "misfit_explained": _explained(errors),
        "electrons_per_pattern": electrons,
        "probe_diameter_a": limits.probe_a(given),
        "linear_overlap_percent": 100 * optics.linear_overlap(10 * max(given.scan_step_nm), limits.probe_a(given)),
        "defocus_refined_nm": (given.defocus_nm or 0.0)
        + defocus_change_nm(given, found.start.probe[0], state.probe[0]),
        "position_rms_a": float(np.sqrt((moved_a**2).sum(0).mean())),
        "saturated_share": found.saturated,
    }
    return told | {f"probe_mode_{number}_share": float(each) for number, each in enumerate(part, 1)}


def _told(halves: Halves) -> float:
    """Part of an empty specimen's misfit beyond counting that patterns do not have from the half they were not in."""
    above = halves.empty - 1
    return 0.0 if above <= 0 else 1 - (halves.unseen - 1) / above


def _explained(errors: list[float]) -> float:
    """Part of the first iteration's misfit beyond that of counting that is gone; 1 where there was none."""
    above = errors[0] - 1
    return 1.0 if above <= 0.01 else float((errors[0] - max(errors[-1], 1.0)) / above)


def _doubts(given: Given, found: Found, figures: dict[str, Any]) -> Iterator[str]:
    errors = found.state.errors
    share = float(found.usable.mean())
    if share < LEAST_USABLE:
        yield f"only {share:.0%} of the positions hold a usable pattern"
    if found.saturated > MOST_SATURATED:
        yield f"{found.saturated:.1%} of the counts stand in pixels at full scale, which were left out"
    if errors[-1] > DIVERGED * min(errors):
        yield f"the misfit rose to {errors[-1]:.3g} after {min(errors):.3g}: the reconstruction diverges"
    elif len(errors) > 1 and errors[-2] - errors[-1] > STILL_FALLING * errors[-1]:
        yield "the misfit was still falling: more iterations are needed"
    if errors[-1] > MOST_MISFIT:
        yield (
            f"the misfit is {errors[-1]:.3g} times that of counting: thickness, defocus, angles, positions or "
            "coherence are not as the model has them"
        )
    if figures["misfit_explained"] < LEAST_EXPLAINED and errors[-1] > 1.05:
        yield f"only {figures['misfit_explained']:.0%} of the misfit was explained: the reconstruction stagnated"
    change = figures["defocus_refined_nm"] - (given.defocus_nm or 0.0)
    depth = optics.depth_of_field_a(given.beam_energy_kev, given.convergence_semi_angle_mrad) / 10
    allowed = max(DEFOCUS_SIGMAS * given.uncertainty.get("defocus_nm", 0.0), depth / 2)
    if abs(change) > allowed:
        yield f"the probe refined itself {change:+.3g} nm away from the given defocus, {allowed:.2g} nm are allowed"


def _ring_doubts(given: Given, options: PtychographyOptions, figures: dict[str, Any]) -> Iterator[str]:
    period = figures["frc_0143_full_period_a"]
    coarsest = optics.wavelength_a(given.beam_energy_kev) / (given.convergence_semi_angle_mrad * 1e-3)
    if options.target_d_a is not None and period > options.target_d_a:
        yield f"two halves agree to a full period of {period:.3g} Å only, {options.target_d_a:g} Å are wanted"
    elif options.target_d_a is None and period > coarsest:
        yield f"two halves agree to a full period of {period:.3g} Å only, coarser than λ/α = {coarsest:.3g} Å"


def _phase_sigma(one: npt.NDArray[Any], other: npt.NDArray[Any]) -> Floats:
    """Standard deviation of the phase of all data (y, x): half of what two independent halves differ by."""
    between = np.angle(flat(one * np.conj(other)))
    sigma: Floats = 0.5 * np.sqrt(ndimage.gaussian_filter(between**2, UNCERTAINTY_SPREAD_PX))
    return sigma


def _first_px(found: Found, given: Given) -> Floats:
    """Where position (0, 0) is in the object, which may hold no pattern."""
    row, column = np.divmod(found.problem.used[0], found.usable.shape[1])
    away = np.array([row, column]) * 10 * np.array(given.scan_step_nm)
    first: Floats = found.problem.positions_px[0] - to_object_px(given, found.size) @ away
    return first


def _pictures(
    given: Given, found: Found, object_: npt.NDArray[Any], sigma: Floats | None, step_a: float
) -> tuple[Picture, ...]:
    pixel = (step_a / 10, step_a / 10)
    scan = (given.scan_step_nm[0], given.scan_step_nm[1])

    def over_scan(values: Floats) -> Floats:
        grid = np.full(found.usable.size, np.nan)
        grid[found.problem.used] = values
        return grid.reshape(found.usable.shape)

    light = (np.abs(found.state.probe) ** 2).sum(0)
    pictures = [
        Picture("phase", "Phase of the object", np.angle(object_), "rad", "signed", pixel, sigma),
        Picture("amplitude", "Amplitude of the object", np.abs(object_), "", "intensity", pixel),
        Picture("probe", "Refined probe, all modes", light / light.sum(), "", "intensity", pixel),
        Picture(
            "misfit",
            "Misfit of each pattern over that of counting",
            over_scan(found.misfit[:, 0] / np.maximum(found.misfit[:, 1], 1e-6)),
            "",
            "intensity",
            scan,
        ),
    ]
    moved = found.state.positions_px - found.problem.positions_px
    if np.any(moved):
        moved_nm = np.linalg.solve(to_object_px(given, found.size), moved.T) / 10
        pictures += [
            Picture(f"moved_{axis}", f"Correction of the position along {axis}", over_scan(each), "nm", "signed", scan)
            for axis, each in zip("yx", moved_nm, strict=True)
        ]
    return tuple(pictures)
