"""The angle per pixel and the ellipse: from a known crystal, or transferred from an angle that is known already."""

from collections.abc import Sequence
from math import nan
from typing import Any

import numpy as np
import numpy.typing as npt

from db.calibrations import CalibrationRecord
from stem4d.calibrate.disk import DiskFit, find_disk
from stem4d.calibrate.rings import fit_rings
from stem4d.calibrate.scale import transferred_scale
from stem4d.calibrate.spots import fit_spots
from stem4d.instrument import ReferenceArea
from stem4d.mode import nominal_mrad_per_pixel
from stem4d.plan import Plan
from tasks.calibrations.bench import Bench, Place
from tasks.calibrations.exposed import VACUUM_ELECTRONS
from tasks.calibrations.measured import Measured, clean, not_measurable, of_fit

LARGEST_ALPHA_MRAD = 2.0
"""On a reference rings and spots must stand apart and be sharp."""
GRID = 16
"""Positions along each axis."""
RINGS_FIELD_NM = 128.0
"""Steps of 8 nm: every position lies on another grain of a usual film. Less where the instrument cannot."""
NO_REFERENCE = "the instrument file names no reference specimen"


def measure(bench: Bench) -> tuple[Measured, ...]:
    """Both kinds, from one mean pattern."""
    found = bench.references("rings", "spots")
    return _on_reference(bench, found) if found else _without(bench)


def _on_reference(bench: Bench, places: Sequence[tuple[ReferenceArea, Place]]) -> tuple[Measured, ...]:
    plan = _parallel(bench)
    area = places[0][0]
    rings = area.kind == "rings"
    # Single crystals lie differently in every place: their spots do not add up. Rings get rounder with every place.
    places = places if rings else places[:1]
    field_nm = min(RINGS_FIELD_NM, bench.opened.file.facts.max_field_nm) if rings else None
    request = bench.request((GRID, GRID), electrons_per_pattern=VACUUM_ELECTRONS, field_nm=field_nm)
    scans = [
        bench.scan(f"reference-{number}", place, request, plan=plan)
        for number, (_area, place) in enumerate(places, start=1)
    ]
    bad = bench.bad_pixels
    mean: npt.NDArray[np.float64] = np.mean([scanned.maps().mean_pattern for scanned in scans], axis=0)
    pattern = mean - bench.offset_counts
    disk = find_disk(pattern, bad)
    evidence = tuple(scanned.dataset_id for scanned in scans)
    if not disk.ok:
        reason = f"no bright-field disk on {area.name}: {disk.reason}"
        return tuple(
            Measured(kind, "fail", reason=reason, evidence=evidence) for kind in ("mrad_per_pixel", "ellipticity")
        )
    fit = (fit_rings if area.kind == "rings" else fit_spots)(
        pattern, area.crystal, plan.optics.beam_energy_kev, nominal_mrad_per_pixel(plan), disk, bad_pixels=bad
    )
    more: dict[str, Any] = {"crystal": area.crystal, "source": "reference"}
    drawn = _drawing(disk, fit)
    return (
        of_fit("mrad_per_pixel", fit, ("mrad_per_pixel",), evidence=evidence, curves=drawn, **more),
        of_fit("ellipticity", fit, ("ellipticity", "ellipse_angle_deg"), evidence=evidence, curves=drawn, **more),
    )


def _parallel(bench: Bench) -> Plan:
    """The plan with the widest beam that still keeps reflections apart, where the column changes it by itself."""
    facts, plan = bench.opened.file.facts, bench.plan
    angles = [each.convergence_semi_angle_mrad for each in facts.apertures]
    allowed = [angle for angle in angles if angle <= LARGEST_ALPHA_MRAD]
    if facts.aligned_semi_angle_mrad is not None or not allowed:
        return plan
    optics = plan.optics.model_copy(update={"convergence_semi_angle_mrad": max(allowed), "defocus_nm": 0.0})
    return plan.model_copy(update={"optics": optics})


def _drawing(disk: DiskFit, fit: Any) -> dict[str, Any]:
    """The fit for the report: rings with their profile, or spots where the lattice has them."""
    drawing = fit.drawing
    rings = [{"centre_px": list(disk.centre_px), "radius_px": disk.radius_px, "label": "disk"}]
    if "radius_px" not in drawing:
        rings += [
            {"centre_px": clean(place), "radius_px": disk.radius_px, "label": "spot as fitted"}
            for place in drawing.get("predicted_px", ())
        ]
        return {"rings": rings}
    ellipse = {"ellipticity": clean(fit.ellipticity), "ellipse_angle_deg": clean(fit.ellipse_angle_deg)}
    rings += [
        {"centre_px": clean(fit.centre_px), "radius_px": float(radius), "label": "ring as fitted", **ellipse}
        for radius in drawing["ring_radius_px"]
    ]
    return {
        "rings": rings if fit.ok else rings[:1],
        "x": clean(drawing["radius_px"]),
        "data": clean(drawing["profile"]),
        "fit": clean(drawing["model"]),
        "x_label": "distance from the centre [px]",
        "y_label": "radial profile [counts]",
    }


def _without(bench: Bench) -> tuple[Measured, ...]:
    """No reference: the scale from an angle that was measured at another camera length; the ellipse not at all."""
    return _transferred(bench), not_measurable("ellipticity", NO_REFERENCE)


def _transferred(bench: Bench) -> Measured:
    angle, disk = bench.known.get("convergence_semi_angle"), bench.known["centre"]
    if angle is None:
        return not_measurable("mrad_per_pixel", f"{NO_REFERENCE}, and the convergence angle is not known")
    if set(bench.evidence(angle)) & set(bench.evidence(disk)):
        return not_measurable("mrad_per_pixel", "angle and scale would come from one image")
    name = "convergence_semi_angle_mrad"
    alpha, error = angle.value[name], (angle.uncertainty or {}).get(name)
    if error is None or (disk.uncertainty or {}).get("radius_px") is None:
        return not_measurable("mrad_per_pixel", f"{NO_REFERENCE}, and nothing says how well angle and disk are known")
    fit = transferred_scale(_disk_of(disk), alpha, error)
    of = [angle.id, disk.id]
    return of_fit("mrad_per_pixel", fit, ("mrad_per_pixel",), evidence=bench.evidence(disk), source="transfer", of=of)


def _disk_of(record: CalibrationRecord) -> DiskFit:
    """The disk that a calibration of the centre found, the error of whose radius is known."""
    value, error = record.value, record.uncertainty or {}
    y, x = value["centre_px"]
    error_y, error_x = error.get("centre_px") or (nan, nan)
    return DiskFit(
        centre_px=(y, x),
        radius_px=value["radius_px"],
        centre_uncertainty_px=(error_y, error_x),
        radius_uncertainty_px=error["radius_px"],
        edge_width_px=value.get("edge_width_px", nan),
        residual=nan if record.residual is None else record.residual,
        ok=True,
        reason="",
    )
