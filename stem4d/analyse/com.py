"""Centre of mass: deflections in mrad about the fitted movement, their noise, curl, and the integrated phase."""

from dataclasses import dataclass
from math import nan, sqrt

import numpy as np
import numpy.typing as npt

from stem4d.calibrate.descan import DescanFit, descan_plane
from stem4d.errors import BadInput
from stem4d.maps import RunMaps

Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Deflection:
    """Deflection of the beam at every position, (scan_y, scan_x) [mrad]; NaN where it is not known."""

    y_mrad: Array
    x_mrad: Array

    @property
    def magnitude_mrad(self) -> Array:
        """Size of the deflection."""
        magnitude: Array = np.hypot(self.y_mrad, self.x_mrad)
        return magnitude


@dataclass(frozen=True)
class DeflectionSummary:
    """Figures of a deflection map; NaN where they could not be worked out."""

    positions: int
    mean_magnitude_mrad: float
    rms_mrad: float
    """Per axis."""
    noise_mrad: float
    """Counting noise per axis, α/(2 sqrt(n))."""
    curl_rms_per_position_mrad: float
    divergence_rms_per_position_mrad: float
    """A deflection by electric fields has no curl: what there is, is noise or a wrong scan rotation."""

    @property
    def text(self) -> str:
        """One line for a report."""
        return (
            f"deflection {self.mean_magnitude_mrad:.3g} mrad on average, {self.rms_mrad:.3g} mrad rms per axis; "
            f"counting noise {self.noise_mrad:.3g} mrad; curl {self.curl_rms_per_position_mrad:.3g}, "
            f"divergence {self.divergence_rms_per_position_mrad:.3g} mrad per position rms"
        )


def deflection(
    maps: RunMaps,
    mrad_per_pixel: float,
    step_nm: float = 1.0,
    descan: DescanFit | None = None,
    centre_px: tuple[float, float] | None = None,
) -> Deflection:
    """Deflection about the fitted movement, a known centre, or else the mean of the map.

    Parameters
    ----------
    maps : RunMaps
        With centres of mass [px].
    mrad_per_pixel : float
        Angle per pixel [mrad].
    step_nm : float
        Scan step of the descan fit [nm].
    descan : DescanFit, optional
        Movement to take off; it wins over ``centre_px``.
    centre_px : (float, float), optional
        Centre (y, x) of the undeflected pattern [px].

    Raises
    ------
    BadInput
        If the angle per pixel is not positive.
    """
    if not mrad_per_pixel > 0:
        raise BadInput(field="mrad_per_pixel", value=mrad_per_pixel, limit="must be positive", unit="mrad")
    com = np.stack([maps.com_y_px, maps.com_x_px]).astype(np.float64)
    com[:, ~maps.recorded] = nan
    known = np.isfinite(com).all(axis=0)
    if descan is not None and np.isfinite(descan.offset_px).all():
        origin = descan_plane(descan, maps.scan_shape, step_nm)
    elif centre_px is not None:
        origin = np.array(centre_px)[:, None, None]
    else:
        origin = com[:, known].mean(axis=1)[:, None, None] if known.any() else np.zeros((2, 1, 1))
    moved = np.where(known, com - origin, nan) * mrad_per_pixel
    return Deflection(moved[0], moved[1])


def summarise_deflection(found: Deflection, electrons: float, convergence_semi_angle_mrad: float) -> DeflectionSummary:
    """Figures of a deflection map.

    ``electrons`` is the mean number in the region of the centre of mass, per pattern.
    """
    known = np.isfinite(found.y_mrad) & np.isfinite(found.x_mrad)
    noise = convergence_semi_angle_mrad / (2 * sqrt(electrons)) if electrons > 0 else nan
    if not known.any():
        return DeflectionSummary(0, nan, nan, noise, nan, nan)
    y, x = found.y_mrad[known], found.x_mrad[known]
    curl, divergence = nan, nan
    if min(found.y_mrad.shape) >= 3:
        (yy, yx), (xy, xx) = np.gradient(found.y_mrad), np.gradient(found.x_mrad)
        curl, divergence = _rms(np.asarray(xy - yx)), _rms(np.asarray(yy + xx))
    return DeflectionSummary(
        positions=int(known.sum()),
        mean_magnitude_mrad=float(np.hypot(y, x).mean()),
        rms_mrad=sqrt(float((y**2 + x**2).mean()) / 2),
        noise_mrad=noise,
        curl_rms_per_position_mrad=curl,
        divergence_rms_per_position_mrad=divergence,
    )


def _rms(values: Array) -> float:
    finite = values[np.isfinite(values)]
    return float(np.sqrt(np.mean(finite**2))) if finite.size else nan
