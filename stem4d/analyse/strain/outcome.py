"""What fits of all positions come to: maps, figures, and whether they answer the question."""

from dataclasses import dataclass
from math import degrees, hypot, isnan, log, radians, sqrt

import numpy as np
import numpy.typing as npt

from stem4d.analyse.geometry import angles_per_px
from stem4d.analyse.method import Given, NotPossible, Outcome, Parts, Picture, Verdict
from stem4d.analyse.strain.options import StrainOptions
from stem4d.analyse.strain.tensor import Tensors, stated_lattice, tensors
from stem4d.calibrate.crystals import PlanarLattice
from stem4d.optics import wavelength_a

Array = npt.NDArray[np.float64]

MISFIT = 2.0
"""Rms of the disks' residuals over their counting errors, beyond which the lattice does not describe them."""
FEWEST_ELECTRONS = 25.0
"""Of a disk: with fewer the stated errors are too small, by a fifth to a half (docs/strain.md)."""
OTHER_REFLECTION = 0.05
"""Departure from the wanted reflection's length at which the lattice does not contain it."""
MEDIAN_ERROR = 1.2533
"""Error of a median over that of a mean, for normal errors."""


@dataclass(frozen=True)
class Facts:
    """What was found before frames were fitted."""

    radius_px: float
    edge_width_px: float
    share_on_lattice: float
    overlap_px: float
    highest: float
    index: Array
    """(m, 2) of the disks looked for."""


def outcome(given: Given, options: StrainOptions, facts: Facts, parts: Parts) -> Outcome:
    """Maps, figures and verdict.

    Raises
    ------
    NotPossible
        Where no position, or none of the reference region, could be fitted, or the stated lattice is another one.
    """
    shape = parts["disks"].shape
    vectors = parts["lattice_px"][..., 1:].reshape(-1, 2, 2)
    fitted: npt.NDArray[np.bool_] = np.asarray(np.isfinite(vectors).all(axis=(1, 2)))
    recorded = parts["recorded"].ravel()
    if not fitted.any():
        raise NotPossible(f"none of {int(recorded.sum())} patterns shows three disks: too few electrons")
    misfit = _misfit(parts, fitted)
    # The lattice is one, its misfit the same everywhere: a factor for all is known far better than one for each.
    covariance = parts["covariance"][..., 3:].reshape(-1, 2, 3) * max(misfit, 1.0) ** 2
    scan = angles_per_px(given)
    reference, positions = _reference(given, options, scan, vectors, fitted, shape)
    strain = tensors(vectors, covariance, reference, scan)
    common = _common(given, options, strain, positions)
    maps = {name: getattr(strain, name).reshape(shape) for name in Tensors.__dataclass_fields__}
    figures = _figures(given, facts, parts, strain, fitted, misfit, common, vectors, scan)
    poor = recorded & ~(parts["disks"].ravel() >= options.fewest_disks)
    figures["poor_share"] = float(poor.sum() / recorded.sum())
    reasons = _doubts(given, options, facts, figures, scan, vectors[fitted])
    verdict: Verdict = "doubtful" if reasons else "good"
    return Outcome(verdict, _words(figures, given, reasons), figures, _pictures(given, maps, parts, common))


def _misfit(parts: Parts, fitted: npt.NDArray[np.bool_]) -> float:
    """Rms of residuals over counting errors, of the median position; NaN where no position has any to spare."""
    freedom = parts["freedom"].ravel()
    some = fitted & (freedom > 0)
    return sqrt(float(np.median(parts["chi_square"].ravel()[some] / freedom[some]))) if some.any() else float("nan")


def _reference(
    given: Given,
    options: StrainOptions,
    scan: Array,
    vectors: Array,
    fitted: npt.NDArray[np.bool_],
    shape: tuple[int, ...],
) -> tuple[Array, int]:
    """g1 and g2 of the reference as columns in the scan's frame [mrad], and of how many positions it, or its turn, is
    the median.
    """
    inside = np.ones(shape, bool)
    if options.reference_region is not None:
        y0, x0, y1, x1 = options.reference_region
        inside[:] = False
        inside[y0:y1, x0:x1] = True
    use = fitted & inside.ravel()
    if not use.any():
        raise NotPossible("no position of reference_region could be fitted: choose another region")
    median = scan @ np.median(vectors[use], axis=0)
    if options.reference == "region" or options.lattice_a_nm is None:
        return median, int(use.sum())
    lattice = PlanarLattice(
        options.lattice_a_nm, options.lattice_b_nm or options.lattice_a_nm, options.lattice_angle_deg
    )
    return stated_lattice(median, lattice, given.beam_energy_kev), int(use.sum())


def _common(given: Given, options: StrainOptions, strain: Tensors, positions: int) -> dict[str, float]:
    """Errors that all positions share: of the reference's median, or of the calibration; NaN where nobody knows."""
    names = {"exx": "exx_sigma", "eyy": "eyy_sigma", "exy": "exy_sigma", "rotation": "rotation_sigma_rad"}
    median = {
        name: MEDIAN_ERROR * float(np.nanmedian(getattr(strain, field))) / sqrt(positions)
        for name, field in names.items()
    }
    if options.reference != "absolute":
        return median
    unknown = float("nan")
    scale = given.uncertainty.get("mrad_per_pixel", unknown) / given.mrad_per_pixel
    ellipse = given.uncertainty.get("ellipticity", unknown) / (2 * (1 + given.ellipticity))
    # A wrong direction of the ellipse turns its vector; a circle has none.
    direction = given.uncertainty.get("ellipse_angle_deg", unknown) if given.ellipticity else 0.0
    stretch = hypot(ellipse, log(1 + given.ellipticity) * radians(direction))
    # The stated lattice is turned as the median of those found.
    return {"exx": hypot(scale, stretch), "eyy": hypot(scale, stretch), "exy": stretch, "rotation": median["rotation"]}


def _unstated(given: Given, options: StrainOptions) -> list[str]:
    """Uncertainties that strain against a stated lattice rests on and nobody gave."""
    if options.reference != "absolute":
        return []
    of = ("mrad_per_pixel", "ellipticity") + (("ellipse_angle_deg",) if given.ellipticity else ())
    return [name for name in of if name not in given.uncertainty]


def _if_known(value: float) -> float | None:
    return None if isnan(value) else value


def _figures(
    given: Given,
    facts: Facts,
    parts: Parts,
    strain: Tensors,
    fitted: npt.NDArray[np.bool_],
    misfit: float,
    common: dict[str, float],
    vectors: Array,
    scan: Array,
) -> dict[str, float | int | str | bool | None]:
    """The figures of the report, by names with units."""
    figures: dict[str, float | int | str | bool | None] = {
        "positions": int(parts["recorded"].sum()),
        "positions_fitted": int(fitted.sum()),
        "frame": "detector" if given.scan_rotation_deg is None else "scan",
    }
    for name in ("exx", "eyy", "exy"):
        values, sigma = getattr(strain, name)[fitted], getattr(strain, f"{name}_sigma")[fitted]
        figures |= {
            f"{name}_median": float(np.median(values)),
            f"{name}_spread": float(values.std()),
            f"{name}_uncertainty": _if_known(hypot(float(np.median(sigma)), common[name])),
        }
    turned = np.degrees(strain.rotation_rad[fitted])
    figures |= {
        "rotation_median_deg": float(np.median(turned)),
        "rotation_spread_deg": float(turned.std()),
        "rotation_uncertainty_deg": degrees(
            hypot(float(np.median(strain.rotation_sigma_rad[fitted])), common["rotation"])
        ),
        "reference_uncertainty": _if_known(float(np.max([common[name] for name in ("exx", "eyy", "exy")]))),
        "disks_looked_for": len(facts.index),
        "disks_used": float(np.median(parts["disks"].ravel()[fitted])),
        "misfit": misfit,
        "share_on_lattice": facts.share_on_lattice,
        "disk_radius_px": facts.radius_px,
        "disk_overlap_px": max(facts.overlap_px, 0.0),
    }
    # Spacings of the lattice planes: λ/|g|, as well known as the scale.
    median = scan @ np.median(vectors[fitted], axis=0)
    scale = given.uncertainty.get("mrad_per_pixel", float("nan")) / given.mrad_per_pixel
    for number, length in enumerate(np.hypot(*median), start=1):
        spacing = 100 * wavelength_a(given.beam_energy_kev) / float(length)
        figures[f"spacing{number}_nm"] = spacing
        figures[f"spacing{number}_uncertainty_nm"] = _if_known(spacing * scale)
    return figures


def _doubts(
    given: Given,
    options: StrainOptions,
    facts: Facts,
    figures: dict[str, float | int | str | bool | None],
    scan: Array,
    vectors: Array,
) -> list[str]:
    """Why the strain answers the question badly."""
    reasons = []
    if unstated := _unstated(given, options):
        reasons.append(
            f"how far {' and '.join(unstated)} may be off is not known, and strain against a stated lattice is off by "
            "as much: calibrate, or state the uncertainty"
        )
    worst = max(float(figures[f"{name}_uncertainty"] or 0.0) for name in ("exx", "eyy", "exy"))
    if worst > options.target_strain:
        reasons.append(f"the strain of a position is known to {worst:.1e} only; {options.target_strain:.1e} was wanted")
    poor = float(figures["poor_share"] or 0.0)
    if poor > options.most_poor_share:
        reasons.append(f"{poor:.0%} of the positions show fewer than {options.fewest_disks} disks")
    misfit = float(figures["misfit"] or 0.0)
    if misfit > MISFIT:
        reasons.append(f"the disks lie {misfit:.1f} times their counting errors off a lattice")
    elif not misfit >= 0:
        reasons.append("no position has more disks than its lattice needs: nothing tells whether it fits")
    disks = float(figures["disks_used"] or 1.0)
    if given.electrons_per_pattern is not None and given.electrons_per_pattern < FEWEST_ELECTRONS * disks:
        mean = given.electrons_per_pattern / disks
        reasons.append(f"a disk has {mean:.0f} electrons: below {FEWEST_ELECTRONS:.0f} the stated errors are too small")
    if facts.overlap_px > 0:
        reasons.append(f"disks overlap by {facts.overlap_px:.1f} px: their interference moves what is measured")
    if given.full_scale is not None and facts.highest >= given.full_scale:
        reasons.append(f"pixels stand at the counter's full scale of {given.full_scale}")
    if options.reflection_d_a is not None:
        wanted = 1e3 * wavelength_a(given.beam_energy_kev) / options.reflection_d_a
        lengths = np.hypot(*(scan @ np.median(vectors, axis=0) @ facts.index.T))
        nearest = float(lengths[np.argmin(np.abs(lengths - wanted))])
        if abs(nearest / wanted - 1) > OTHER_REFLECTION:
            there = 1e3 * wavelength_a(given.beam_energy_kev) / max(nearest, 1e-12)
            reasons.append(
                f"no disk has the spacing of {options.reflection_d_a:g} Å; the nearest of the lattice is {there:.3g} Å"
            )
    return reasons


def _told(uncertainty: float | int | str | bool | None) -> str:
    return "unknown" if uncertainty is None else f"{uncertainty:.1e}"


def _words(figures: dict[str, float | int | str | bool | None], given: Given, reasons: list[str]) -> str:
    axes = (
        "of the scan" if given.scan_rotation_deg is not None else "of the detector (the scan's rotation is not known)"
    )
    found = "; ".join(
        f"{name} {figures[f'{name}_median']:+.2e} ± {_told(figures[f'{name}_uncertainty'])}"
        f" (spread {figures[f'{name}_spread']:.1e})"
        for name in ("exx", "eyy", "exy")
    )
    said = (
        f"{figures['positions_fitted']} of {figures['positions']} positions; median {found}; axes {axes};"
        f" {figures['disks_used']:.0f} disks a position"
    )
    return f"{'; '.join(reasons)}. {said}" if reasons else said


def _pictures(given: Given, maps: dict[str, Array], parts: Parts, common: dict[str, float]) -> tuple[Picture, ...]:
    axes = "" if given.scan_rotation_deg is not None else " (axes of the detector)"
    titles = {"exx": "Strain along x", "eyy": "Strain along y", "exy": "Shear strain"}
    step = given.scan_step_nm
    errors = {name: None if isnan(common[name]) else np.hypot(maps[f"{name}_sigma"], common[name]) for name in titles}
    pictures = [
        Picture(name, title + axes, maps[name], "", "signed", step, errors[name]) for name, title in titles.items()
    ]
    turned, error = np.degrees(maps["rotation_rad"]), np.degrees(maps["rotation_sigma_rad"])
    pictures.append(
        Picture(
            "rotation",
            "Rotation of the lattice, from x towards y",
            turned,
            "deg",
            "signed",
            step,
            np.hypot(error, np.degrees(common["rotation"])),
        )
    )
    seen = np.where(parts["recorded"], parts["disks"], np.nan).astype(np.float64)
    pictures.append(Picture("disks", "Disks through which the lattice was fitted", seen, "", "intensity", step))
    return tuple(pictures)
