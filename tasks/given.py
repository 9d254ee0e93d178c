"""What an analysis is told of a run's data: the plan, and over it what the calibrations of the run say."""

from collections.abc import Mapping, Sequence
from math import hypot, sqrt
from typing import Any, TypeGuard

import numpy as np

from stem4d.analyse.method import Given
from stem4d.plan import Plan
from stem4d.predict import predict
from tasks.calibrated import uncalibrated

Value = Mapping[str, Any]


def given_of_run(plan: Plan, calibrations: Mapping[str, Mapping[str, Any]]) -> Given:
    """The geometry of a run.

    Parameters
    ----------
    plan : Plan
        What was asked for.
    calibrations : mapping
        By kind, each with ``value`` and ``uncertainty``, as `db.questions.show.show_run` lists them. What nobody
        measured is as the plan has it, without an uncertainty, the defocus too; rotation and handedness, of which a
        plan says nothing, are unknown.
    """
    nominal = uncalibrated(plan)

    def said(kind: str, name: str) -> Any:
        return (calibrations.get(kind, {}).get("value") or {}).get(name)

    step = plan.scan.step_nm
    ratio = _ratio(said("scan_step", "nominal_step_nm"), said("scan_step", "step_y_nm"), said("scan_step", "step_x_nm"))
    bad = np.zeros(plan.detector.shape, np.bool_)
    for y, x in said("pixel_mask", "bad_pixels") or ():
        bad[y, x] = True
    current = said("current", "true_over_commanded") or 1.0
    defocus = said("defocus", "defocus_nm")
    centre = said("centre", "centre_px")
    return Given(
        beam_energy_kev=plan.optics.beam_energy_kev,
        convergence_semi_angle_mrad=said("convergence_semi_angle", "convergence_semi_angle_mrad")
        or plan.optics.convergence_semi_angle_mrad,
        mrad_per_pixel=said("mrad_per_pixel", "mrad_per_pixel") or plan.mrad_per_pixel,
        scan_step_nm=(step * ratio[0], step * ratio[1]),
        origin_px=np.array(nominal.centre_px if centre is None else centre),
        bad_pixels=bad,
        scan_rotation_deg=said("rotation", "rotation_deg"),
        mirrored=said("rotation", "mirrored"),
        defocus_nm=plan.optics.defocus_nm if defocus is None else defocus,
        thickness_nm=plan.sample.thickness_nm,
        ellipticity=said("ellipticity", "ellipticity") or 0.0,
        ellipse_angle_deg=said("ellipticity", "ellipse_angle_deg") or 0.0,
        electrons_per_pattern=predict(plan).electrons_per_pattern * current,
        counts_per_electron=said("counts_per_electron", "counts_per_electron") or 1.0,
        full_scale=plan.detector.full_scale,
        uncertainty=_uncertainties(calibrations),
    )


def _ratio(nominal: float | None, y: float | None, x: float | None) -> tuple[float, float]:
    return (y / nominal, x / nominal) if nominal and y and x else (1.0, 1.0)


_UNCERTAIN = {
    "convergence_semi_angle_mrad": ("convergence_semi_angle", "convergence_semi_angle_mrad"),
    "mrad_per_pixel": ("mrad_per_pixel", "mrad_per_pixel"),
    "origin_px": ("centre", "centre_px"),
    "scan_rotation_deg": ("rotation", "rotation_deg"),
    "defocus_nm": ("defocus", "defocus_nm"),
    "ellipticity": ("ellipticity", "ellipticity"),
    "ellipse_angle_deg": ("ellipticity", "ellipse_angle_deg"),
}
"""Figures of ``Given`` by kind and name of the calibration that says how well they are known."""


def _uncertainties(calibrations: Mapping[str, Mapping[str, Any]]) -> dict[str, float]:
    found = {}
    for name, (kind, key) in _UNCERTAIN.items():
        told = calibrations.get(kind, {}).get("uncertainty")
        value = told.get(key) if isinstance(told, Mapping) else None
        if name == "origin_px" and isinstance(value, Sequence) and all(_positive(each) for each in value):
            # Along y and along x: one figure stands for either.
            value = hypot(*value) / sqrt(len(value))
        if _positive(value):
            found[name] = float(value)
    return found


def _positive(value: object) -> TypeGuard[float]:
    return isinstance(value, int | float) and value > 0
