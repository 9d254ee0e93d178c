"""Draws maps over the scan in nm: virtual images and the centre of mass. Position (0, 0) is at the top left."""

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from numpy.typing import NDArray

from stem4d.plan import VirtualDetector
from web.report.figures.canvas import (
    INK,
    NO_DATA_COLOUR,
    TEXT_PT,
    Drawing,
    clip_range,
    colour_bar,
    drawn,
    image_panel,
    scale_bar,
    with_bad,
)
from web.report.figures.colour import colour_wheel, direction_colours
from web.report.text import number

Steps = float | tuple[float, float]
"""Distance of neighbouring positions [nm]: along both axes, or along y and x."""


def virtual_image(image: NDArray[np.generic], name: str, step_nm: Steps, ring: VirtualDetector | None) -> Drawing:
    """What one virtual detector collected, shape (scan_y, scan_x) [counts per frame]; NaN where no frame is.

    ``ring`` is what the detector collects, None where that is not known.
    """
    angles = "" if ring is None else f", {ring.inner_mrad:.3g} to {ring.outer_mrad:.3g} mrad"
    title = f"Virtual image {name}{angles} [counts]"
    low, high, cut = clip_range(image)
    shown, bar_axes = image_panel(_masked(image), title, extent=extent_nm(image.shape, step_nm))
    shown.set(cmap=with_bad(colormaps["gray"]), clim=(low, high))
    colour_bar(shown, bar_axes, "counts per frame", cut)
    field = real_space(shown.axes, image, step_nm)
    said = f"Values from {number(low)} to {number(high)} counts per frame."
    return drawn(shown, title, f"{title}. {field} {said}")


def com_component(values_mrad: NDArray[np.floating], axis: str, step_nm: Steps, limit_mrad: float) -> Drawing:
    """One component of the centre of mass, shape (scan_y, scan_x) [mrad], on a scale symmetric about zero."""
    title = f"Centre of mass, {axis} component [mrad]"
    shown, bar_axes = image_panel(_masked(values_mrad), title, extent=extent_nm(values_mrad.shape, step_nm))
    shown.set(cmap=with_bad(colormaps["RdBu_r"]), clim=(-limit_mrad, limit_mrad))
    beyond = float(np.nanmax(np.abs(values_mrad), initial=0)) > limit_mrad
    colour_bar(shown, bar_axes, "mrad", "both" if beyond else "neither")
    field = real_space(shown.axes, values_mrad, step_nm)
    said = f"Colour scale from −{number(limit_mrad, 3)} (blue) to {number(limit_mrad, 3)} mrad (red)."
    return drawn(shown, title, f"{title}. {field} {said}")


def com_direction(
    y_mrad: NDArray[np.floating], x_mrad: NDArray[np.floating], step_nm: Steps, limit_mrad: float
) -> Drawing:
    """Magnitude and direction of the centre of mass, components of shape (scan_y, scan_x) [mrad]."""
    title = "Centre of mass, magnitude and direction [mrad]"
    colours = direction_colours(y_mrad, x_mrad, limit_mrad)
    missing = ~np.isfinite(y_mrad + x_mrad)
    colours[missing] = [int(NO_DATA_COLOUR[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    shown, bar_axes = image_panel(colours, title, extent=extent_nm(y_mrad.shape, step_nm))
    field = real_space(shown.axes, y_mrad, step_nm)
    _wheel(bar_axes, limit_mrad)
    magnitude = np.hypot(y_mrad, x_mrad)
    typical = float(np.sqrt(np.nanmean(magnitude**2))) if np.isfinite(magnitude).any() else None
    said = (
        f"Hue is the direction as seen on the picture, brightness the magnitude, full at {number(limit_mrad, 3)} mrad; "
        f"root mean square magnitude {number(typical, 3)} mrad."
    )
    return drawn(shown, title, f"{title}. {field} {said}")


def com_limit_mrad(y_mrad: NDArray[np.floating], x_mrad: NDArray[np.floating]) -> float:
    """One end of scale for a centre of mass and both its components [mrad]: 99.5 % of the magnitudes are within it."""
    magnitude = np.hypot(y_mrad, x_mrad)
    magnitude = magnitude[np.isfinite(magnitude)]
    top = float(np.percentile(magnitude, 99.5)) if magnitude.size else 0.0
    return float(f"{top:.2g}") if top > 0 else 1.0


def _wheel(bar_axes: Axes, limit_mrad: float) -> None:
    place, figure = bar_axes.get_position(), bar_axes.get_figure(root=True)
    assert figure is not None
    across, up = figure.get_size_inches()
    bar_axes.remove()
    size_in = 0.62
    left = place.x0 + 0.06 / across
    axes = figure.add_axes((left, place.y1 - (size_in + 0.2) / up, size_in / across, size_in / up), label="wheel")
    axes.imshow(colour_wheel(), extent=(-1, 1, 1, -1), interpolation="bilinear")
    axes.set_axis_off()
    axes.set_title("direction", fontsize=TEXT_PT - 1, color=INK, pad=3)
    axes.text(0.5, -0.08, f"rim:\n{number(limit_mrad, 2)} mrad", transform=axes.transAxes, ha="center", va="top",
              fontsize=TEXT_PT - 1, color=INK)  # fmt: skip


def extent_nm(shape: tuple[int, ...], step_nm: Steps) -> tuple[float, float, float, float]:
    """Left, right, bottom and top of a map [nm], as matplotlib wants them."""
    # Positions are the centres of their pixels: position (0, 0) lies at 0 nm.
    y, x = _steps(step_nm)
    return -0.5 * x, (shape[1] - 0.5) * x, (shape[0] - 0.5) * y, -0.5 * y


def _steps(step_nm: Steps) -> tuple[float, float]:
    return step_nm if isinstance(step_nm, tuple) else (step_nm, step_nm)


def real_space(axes: Axes, values: NDArray[np.generic], step_nm: Steps) -> str:
    """Label the axes, add the scale bar, and say how large the field is."""
    rows, columns = values.shape
    y_nm, x_nm = _steps(step_nm)
    axes.set_xlabel("scan x [nm]", fontsize=TEXT_PT, color=INK)
    axes.set_ylabel("scan y [nm]", fontsize=TEXT_PT, color=INK, labelpad=3)
    bar = scale_bar(axes, columns * x_nm)
    missing = int(np.count_nonzero(~np.isfinite(np.asarray(values, dtype=np.float64))))
    return (
        f"Field of {number(columns * x_nm, 3)} nm across and {number(rows * y_nm, 3)} nm down, "
        f"{columns} by {rows} positions"
        + (f", scale bar {bar}." if bar else ".")
        + (f" {missing} positions without a frame are shown in pale red." if missing else "")
    )


def _masked(values: NDArray[np.generic]) -> np.ma.MaskedArray:
    return np.ma.masked_invalid(np.asarray(values, dtype=np.float64))
