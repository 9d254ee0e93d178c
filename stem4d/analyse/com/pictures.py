"""The maps that deflections come to: themselves, curl and divergence, fields, phase and potential."""

from typing import TYPE_CHECKING, Literal

import numpy as np
import numpy.typing as npt

from stem4d.analyse.com import fields as deflected
from stem4d.analyse.com.curl import CurlCheck
from stem4d.analyse.com.grid import integrated
from stem4d.analyse.method import Given, Kind, Picture

if TYPE_CHECKING:
    from stem4d.analyse.com.outcome import Deflected

Array = npt.NDArray[np.float64]
Pictures = tuple[Picture, ...]
Field = Literal["electric", "magnetic", "none"]


def deflection(given: Given, found: "Deflected") -> Pictures:
    """Components, size and direction; the direction runs from +x towards +y."""
    size = np.hypot(found.y_mrad, found.x_mrad)
    direction = np.degrees(np.arctan2(found.y_mrad, found.x_mrad))
    safe = np.where(size > 0, size, np.nan)
    along = np.sqrt((found.y_mrad * found.sigma_y_mrad) ** 2 + (found.x_mrad * found.sigma_x_mrad) ** 2) / safe
    across = np.sqrt((found.x_mrad * found.sigma_y_mrad) ** 2 + (found.y_mrad * found.sigma_x_mrad) ** 2) / safe
    # A direction is known no worse than evenly spread round the circle.
    turn = np.minimum(np.degrees(across / safe), 180 / np.sqrt(3))
    return (
        _picture(given, "deflection_y", "Deflection along y", found.y_mrad, "mrad", "signed", found.sigma_y_mrad),
        _picture(given, "deflection_x", "Deflection along x", found.x_mrad, "mrad", "signed", found.sigma_x_mrad),
        _picture(given, "deflection", "Deflection", size, "mrad", "intensity", along),
        _picture(given, "direction", "Direction of the deflection", direction, "deg", "angle", turn),
    )


def differentials(given: Given, curl: CurlCheck, known: npt.NDArray[np.bool_]) -> Pictures:
    """Divergence, which is minus the projected charge, and curl, which is none of a specimen's."""

    def seen(values: Array) -> Array:
        return np.where(known, values, np.nan)

    return tuple(
        _picture(given, name, title, seen(one.values), "mrad/nm", "signed", seen(one.sigma))
        for name, title, one in (
            ("divergence", "Divergence of the deflection", curl.divergence),
            ("curl", "Curl of the deflection", curl.curl),
        )
    )


def fields(given: Given, found: "Deflected", field: Field) -> Pictures:
    """Projected fields, or where the thickness is known their mean along it."""
    if field == "none":
        return ()
    thick = given.thickness_nm
    depth = thick or 1.0
    if field == "electric":
        scale = deflected.projected_field_v_per_mrad(given.beam_energy_kev) / depth
        parts = (("y", found.y_mrad, found.sigma_y_mrad, scale), ("x", found.x_mrad, found.sigma_x_mrad, scale))
        name, title, unit = "electric_field", "electric field", "V/nm" if thick else "V"
    else:
        scale = deflected.projected_induction_t_nm_per_mrad(given.beam_energy_kev) / depth
        parts = (("y", found.x_mrad, found.sigma_x_mrad, scale), ("x", found.y_mrad, found.sigma_y_mrad, -scale))
        name, title, unit = "magnetic_induction", "magnetic induction", "T" if thick else "T nm"
    word = "Mean" if thick else "Projected"
    return tuple(
        _picture(given, f"{name}_{axis}", f"{word} {title} along {axis}", values * s, unit, "signed", sigma * abs(s))
        for axis, values, sigma, s in parts
    )


def phase(
    given: Given, values: list[Array], found: "Deflected", field: Field
) -> tuple[Pictures, dict[str, float | int | str | bool | None]]:
    """Integrated phase, and of electric fields the projected potential; mean zero, missing positions NaN."""
    scale = deflected.phase_gradient_per_mrad(given.beam_energy_kev)
    noise = found.noise_mrad
    made, sigma = integrated(
        values[0] * scale, values[1] * scale, given.scan_step_nm, (noise[0] * scale, noise[1] * scale)
    )
    made, sigma = (np.where(found.known, each, np.nan) for each in (made, sigma))
    figures: dict[str, float | int | str | bool | None] = {
        "phase_rms_rad": float(np.nanstd(made)),
        "phase_noise_rad": float(np.sqrt(np.nanmean(sigma**2))),
    }
    pictures: Pictures = (_picture(given, "phase", "Integrated phase", made, "rad", "signed", sigma),)
    if field == "electric":
        per_v_nm = deflected.interaction_rad_per_v_nm(given.beam_energy_kev)
        pictures += (
            _picture(given, "potential", "Projected potential", made / per_v_nm, "V nm", "signed", sigma / per_v_nm),
        )
    return pictures, figures


def _picture(given: Given, name: str, title: str, values: Array, unit: str, kind: Kind, sigma: Array) -> Picture:
    return Picture(name, title, values, unit, kind, given.scan_step_nm, sigma)
