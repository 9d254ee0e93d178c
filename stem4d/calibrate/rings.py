"""Angle per pixel and ellipse from the rings of a known powder, all rings at once."""

from dataclasses import dataclass
from math import exp, log, sqrt

import numpy as np
import numpy.typing as npt
from scipy.optimize import nnls

from stem4d.calibrate.crystals import Crystal, Family, crystal_named, falloff_a, families
from stem4d.calibrate.disk import DiskFit
from stem4d.calibrate.ring_errors import Errors, cluster_covariance, held, shared_errors
from stem4d.calibrate.ring_model import SLIMNESS, Annulus, Trial, annulus, project_out, solve
from stem4d.calibrate.ring_profile import NARROWEST_PX, Powder, ring_profiles
from stem4d.calibrate.scale_fit import (
    NOMINAL_TOLERANCE,
    SEARCHED,
    ScaleFit,
    check_scale_input,
    ellipse_of,
    good_counts,
    implausible,
    no_scale,
    unfit_disk,
)
from stem4d.optics import wavelength_a

Array = npt.NDArray[np.float64]

SECTORS = 16
"""Sectors of half a turn: of 11 degrees, as wide as a spot on the innermost ring. Neighbours go together."""
MOST_RINGS = 12
"""Higher ones crowd together and look like background."""
FEWEST_RINGS = 2
SIGNIFICANT = 5.0
"""Standard errors that a ring's height must reach to count as seen."""
CLEAR_PX = 1.5
"""Distance that rings keep from the edge of the disk and of the detector, beside the edge's blur."""
MISSING_SIGMAS, MISSING_PART = 2.0, 0.05
"""A strong ring is missing where, with so many errors on top, it is no higher than this part of the highest: the rings
of a few grains are high in some places and not seen in others."""
SLIMNESS_SPREAD = log(2)
"""How far grains are from as thick as they are wide, standard deviation of the logarithm: grains of a film grow as
wide as it is thick, within a factor of two (Thompson, Annu. Rev. Mater. Sci. 20 (1990) 245)."""
STIFF = 1e4
"""Weight that holds the slimness where it is."""
RATIO_SIGMAS, RATIO_PART = 5.0, 0.004
"""A ring that departs from the common scale by more than both (standard errors, part of its radius) is another
crystal's: the closest wrong ratios of the known crystals differ by 1 %."""
UNEXPLAINED = 0.2
"""Height of a ring that the crystal does not have, over the highest one, that refuses the crystal."""
SEARCH_STEP_PX = 0.5
"""The outermost ring moves by so much from one trial of the search to the next; the fit takes hold from further."""
SMALLEST_GAIN = 0.3
"""Part of the variance of the radial profile about a smooth background that the rings must explain."""


@dataclass(frozen=True)
class _Reach:
    """Where rings can be seen [px], and which families lie there."""

    inner: float
    outer: float
    families: tuple[Family, ...]
    mrad: Array


def fit_rings(
    mean_pattern: npt.NDArray[np.generic],
    crystal: str,
    beam_energy_kev: float,
    nominal_mrad_per_pixel: float,
    disk: DiskFit,
    bad_pixels: npt.NDArray[np.bool_] | None = None,
    nominal_tolerance: float = NOMINAL_TOLERANCE,
) -> ScaleFit:
    """Fit all rings of a powder that clear the bright-field disk and the detector's edge.

    One scale, one ellipse, one centre and one shape of grains for all; a height for each ring. Errors are from the
    scatter of sectors in azimuth, so that a few large grains do not make them too small. Then each ring is let go:
    departures from the common scale test the crystal. Two fcc metals have the same ratios, and a pattern of one fits
    the other with the scale off by the ratio of their lattice constants (gold and aluminium: 0.7 %): only a nominal
    scale that is known better than that can tell them apart, and the fit refuses what is off by more than
    ``nominal_tolerance``.

    Parameters
    ----------
    mean_pattern : ndarray, shape (det_y, det_x)
        Counts or any multiple: mean over a scan of the ring specimen.
    crystal : str
        A name or formula of ``stem4d.calibrate.crystals``.
    beam_energy_kev : float
        Energy [keV]; the angle of a ring is λ g.
    nominal_mrad_per_pixel : float
        Expected scale [mrad].
    disk : DiskFit
        The bright-field disk of this pattern.
    bad_pixels : ndarray of bool, shape (det_y, det_x), optional
        Pixels to leave out.
    nominal_tolerance : float
        Largest departure from the nominal scale, as a part of it, that is believed.

    Returns
    -------
    ScaleFit
        ``ok`` is false with a reason where fewer than two rings are seen or they are not this crystal's.

    Raises
    ------
    BadInput
        If the crystal is not known, a figure is not positive, or shapes do not fit.
    """
    check_scale_input(mean_pattern, beam_energy_kev, nominal_mrad_per_pixel, bad_pixels, nominal_tolerance)
    known = crystal_named(crystal)
    if reason := unfit_disk(disk):
        return no_scale(reason)
    counts, good = good_counts(mean_pattern, bad_pixels)
    reach = _reach(counts.shape, known, 1e3 * wavelength_a(beam_energy_kev), nominal_mrad_per_pixel, disk)
    if reach is None:
        return no_scale("no two rings clear the bright-field disk and the detector's edge")
    area = annulus(counts, good, disk.centre_px, reach.inner, reach.outer, SECTORS)
    if not area.counts.sum() > 0 or len(area.counts) < 200:
        return no_scale("no counts outside the bright-field disk")
    scale, gain = _search(area, reach, nominal_mrad_per_pixel, disk)
    if gain < SMALLEST_GAIN:
        return no_scale(f"rings of {known.name} explain only {gain:.0%} of the radial profile: no rings, or not these")
    g = np.array([family.g_per_a for family in reach.families])
    powder = Powder(
        reach.mrad, falloff_a(known, g) * g / reach.mrad, disk.radius_px, max(disk.edge_width_px, NARROWEST_PX)
    )
    start = np.array([0.0, 0.0, 0.0, 0.0, 0.0, -log(scale), 0.0])
    weight = 1 / np.sqrt(np.maximum(_smooth_profile(area), 1e-12 * float(area.counts.max())))
    # First with grains as thick as they are wide: how uneven grains make the rings says what the rings can add to that.
    fit = solve(area, start, powder, weight, STIFF)
    floor = 0.05 * float(np.median(fit.model[fit.model > 0])) if (fit.model > 0).any() else 1.0
    weight = 1 / np.sqrt(np.maximum(fit.model, floor))
    fit = solve(area, fit.parameters, powder, weight, STIFF)
    stiffness = sqrt(shared_errors(fit, area.sector, STIFF, 0.0).noise) / SLIMNESS_SPREAD
    fit = solve(area, fit.parameters, powder, weight, stiffness)
    errors = shared_errors(fit, area.sector, stiffness, SLIMNESS_SPREAD)
    return _judge(area, fit, errors, stiffness, reach, known, nominal_mrad_per_pixel, nominal_tolerance, disk)


def _reach(
    shape: tuple[int, ...], crystal: Crystal, wavelength_mrad_a: float, nominal: float, disk: DiskFit
) -> _Reach | None:
    cy, cx = disk.centre_px
    blur = 3 * disk.edge_width_px
    inner = disk.radius_px + blur + CLEAR_PX
    outer = min(cy, cx, shape[0] - 1 - cy, shape[1] - 1 - cx)
    if outer < inner + 2 * disk.radius_px + 4:
        return None
    found = families(crystal, (outer + disk.radius_px) * nominal * (1 + SEARCHED) / wavelength_mrad_a)
    if len(found) > MOST_RINGS:
        outer = min(outer, found[MOST_RINGS].g_per_a * wavelength_mrad_a / nominal - disk.radius_px - CLEAR_PX - blur)
        found = found[:MOST_RINGS]
    # A ring within the disk's own reach has nothing left to be fitted.
    mrad = np.array([each.g_per_a * wavelength_mrad_a for each in found])
    keep = mrad / nominal > inner - 0.5 * disk.radius_px
    if keep.sum() < FEWEST_RINGS or outer < inner + 2 * disk.radius_px + 4:
        return None
    return _Reach(inner, outer, tuple(f for f, k in zip(found, keep, strict=True) if k), mrad[keep])


def _binned(area: Annulus, values: Array, radius: Array) -> tuple[Array, Array, Array]:
    """Mean radius, mean value and number of pixels per ring of 1 px."""
    ring = (radius - radius.min()).astype(np.intp)
    number = np.bincount(ring).astype(np.float64)
    some = number > 0
    means = [np.bincount(ring, weights=each)[some] / number[some] for each in (radius, values)]
    return means[0], means[1], number[some]


def _smooth_profile(area: Annulus) -> Array:
    """The radial mean at every pixel: what its noise is first taken from."""
    at, mean, _ = _binned(area, area.counts, area.radius)
    values: Array = np.interp(area.radius, at, mean)
    return np.maximum(values, 1e-3 * float(mean.max()))


def _search(area: Annulus, reach: _Reach, nominal: float, disk: DiskFit) -> tuple[float, float]:
    """The scale [mrad per pixel] whose rings explain the radial profile best, and the part of it they explain."""
    at, mean, number = _binned(area, area.counts, area.radius)
    weight = np.sqrt(number / np.maximum(mean, 1e-3 * float(mean.max())))
    smooth = np.stack([(at / at[-1]) ** power for power in (-3, -2, -1, 0, 1)], axis=1) * weight[:, None]
    q = np.linalg.qr(smooth)[0]
    target = mean * weight
    target = target - q @ (q.T @ target)
    whole = float(target @ target)
    grid = np.arange(0.0, float(at[-1]) + 4 * disk.radius_px + 8, 0.25)
    steps = np.arange(-SEARCHED, SEARCHED, SEARCH_STEP_PX / float(at[-1]))
    best, gain = nominal, -1.0
    for change in steps:
        scale = nominal * (1 + change)
        table = ring_profiles(grid, reach.mrad / scale, disk.radius_px, max(1.0, disk.edge_width_px), 0.25)
        rings = np.stack([np.interp(at, grid, each) for each in table], axis=1) * weight[:, None]
        rings = rings - q @ (q.T @ rings)
        explained = 1 - nnls(rings, target)[1] ** 2 / max(whole, 1e-300)
        if explained > gain:
            best, gain = scale, explained
    return best, gain


def _judge(
    area: Annulus,
    fit: Trial,
    known: Errors,
    stiffness: float,
    reach: _Reach,
    crystal: Crystal,
    nominal: float,
    tolerance: float,
    disk: DiskFit,
) -> ScaleFit:
    number = len(reach.mrad)
    columns = np.concatenate([fit.design, fit.jacobian], axis=1)
    hold = held(columns.shape[1], SLIMNESS - fit.jacobian.shape[1], stiffness)
    height_errors = np.sqrt(np.diag(cluster_covariance(columns, fit.residuals, area.sector, hold))[:number])
    covariance = known.covariance
    scale = exp(-fit.parameters[5])
    ellipticity, ellipticity_error, angle, angle_error = ellipse_of(fit.parameters[2:4], covariance[2:4, 2:4])
    radii = reach.mrad / scale
    stretched = radii * sqrt(1 + ellipticity) + disk.radius_px + fit.width_px
    clear = (radii / sqrt(1 + ellipticity) - disk.radius_px > reach.inner) & (stretched < reach.outer)
    seen = fit.amplitudes[:number] > SIGNIFICANT * height_errors
    used = clear & seen
    departure, departure_error, chi = _departures(area, fit, used, stiffness)
    reasons = implausible(scale, nominal, ellipticity, tolerance)
    if used.sum() < FEWEST_RINGS:
        reasons.append(
            f"{used.sum()} rings are seen clear of the disk and the detector's edge; it takes {FEWEST_RINGS}"
        )
    heights = fit.amplitudes[:number]
    absent = heights + MISSING_SIGMAS * height_errors < MISSING_PART * float(heights[clear].max(initial=0.0))
    for family, is_clear, is_absent in zip(reach.families, clear, absent, strict=True):
        if family.index in crystal.strong and is_clear and is_absent:
            reasons.append(f"the ring {_name(family)} of {crystal.name} is missing")
    off = (np.abs(departure) > RATIO_SIGMAS * departure_error) & (np.abs(departure) > RATIO_PART)
    if off.any():
        worst = int(np.argmax(np.abs(departure)))
        name = _name([f for f, u in zip(reach.families, used, strict=True) if u][worst])
        reasons.append(f"the ring {name} lies {departure[worst]:+.1%} off the common scale: not {crystal.name}")
    drawing, residual, extra = _profiles(area, fit, disk)
    if extra is not None:
        reasons.append(f"a ring at {extra * scale:.1f} mrad that {crystal.name} does not have")
    drawing |= {
        "ring_radius_px": radii[used],
        "ring_departure": departure,
        "ring_departure_uncertainty": departure_error,
    }
    errors = np.sqrt(np.maximum(np.diag(covariance), 0.0))
    return ScaleFit(
        mrad_per_pixel=scale,
        mrad_per_pixel_uncertainty=scale * float(errors[5]),
        ellipticity=ellipticity,
        ellipticity_uncertainty=ellipticity_error,
        ellipse_angle_deg=angle,
        ellipse_angle_uncertainty_deg=angle_error,
        ellipse_vector=(float(fit.parameters[2]), float(fit.parameters[3])),
        ellipse_vector_uncertainty=(float(errors[2]), float(errors[3])),
        centre_px=(disk.centre_px[0] + float(fit.parameters[0]), disk.centre_px[1] + float(fit.parameters[1])),
        centre_uncertainty_px=(float(errors[0]), float(errors[1])),
        residual=residual,
        agreement=chi,
        rotation_deg=float("nan"),
        reflections=tuple(_name(f) for f, u in zip(reach.families, used, strict=True) if u),
        drawing=drawing,
        ok=not reasons,
        reason="; ".join(reasons),
    )


def _name(family: Family) -> str:
    return "".join(str(each) for each in family.index)


def _departures(area: Annulus, fit: Trial, used: npt.NDArray[np.bool_], stiffness: float) -> tuple[Array, Array, float]:
    """Relative departure of each ring's radius from the common scale, its error, and chi per degree of freedom."""
    if used.sum() < 2:
        return np.zeros(int(used.sum())), np.full(int(used.sum()), np.inf), float("nan")
    # Centre, ellipse, spread and slimness go on as they are; rings that are not used stay where they are.
    number = int(used.sum())
    others = np.delete(fit.jacobian, 5, axis=1)
    columns = np.concatenate([others, fit.per_ring[:, used]], axis=1)
    hold = held(columns.shape[1], SLIMNESS - 1, stiffness)
    free = np.concatenate([project_out(columns, fit.design), np.diag(hold)])
    wanted = np.append(fit.residuals, -hold * fit.parameters[SLIMNESS])
    change = np.asarray(np.linalg.lstsq(free, wanted, rcond=None)[0], dtype=np.float64)
    left = fit.residuals - free[: len(fit.residuals)] @ change
    change = change[-number:]
    everything = np.concatenate([fit.design, columns], axis=1)
    hold = np.append(np.zeros(fit.design.shape[1]), hold)
    covariance = cluster_covariance(everything, left, area.sector, hold)[-number:, -number:]
    errors: Array = np.sqrt(np.maximum(np.diag(covariance), 1e-300))
    mean = float((change / errors**2).sum() / (1 / errors**2).sum())
    chi = sqrt(float((((change - mean) / errors) ** 2).sum()) / (len(change) - 1))
    return change - mean, errors, chi


def _profiles(area: Annulus, fit: Trial, disk: DiskFit) -> tuple[dict[str, Array], float, float | None]:
    """Radial profiles to draw, rms of what is left over the highest ring, and the radius of a ring too many."""
    at, profile, number = _binned(area, area.counts, fit.rho)
    _, model, _ = _binned(area, fit.model, fit.rho)
    _, behind, _ = _binned(area, fit.background, fit.rho)
    _, squares, _ = _binned(area, (area.counts - fit.model) ** 2, fit.rho)
    left = profile - model
    highest = max(float((model - behind).max()), 1e-300)
    width = max(int(disk.radius_px), 1)
    window = np.ones(width)
    mean = np.convolve(left * number, window, "same") / np.convolve(number, window, "same")
    noise = np.sqrt(np.convolve(squares * number, window, "same")) / np.convolve(number, window, "same")
    # The pixels of a spot go together: as many of them as a spot holds make one independent one.
    noise = noise * max(1.0, disk.radius_px)
    inside = slice(width, len(at) - width)
    too_much = np.where(mean > 5 * noise, mean, 0.0)[inside]
    extra = None
    if len(too_much) and float(too_much.max()) > UNEXPLAINED * highest:
        extra = float(at[inside][int(np.argmax(too_much))])
    drawing = {"radius_px": at, "profile": profile, "model": model, "background": behind}
    return drawing, sqrt(float(np.average(left**2, weights=number))) / highest, extra
