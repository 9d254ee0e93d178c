"""Draws what moved: the disk over the scan (descan, centring) and the specimen between passes (drift)."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Circle
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from web.report.figures.canvas import INK, TEXT_PT, Drawing, drawn, legend_below, plot_axes
from web.report.text import number, quantity

_ORANGE, _BLUE, _GREY, _GRID = "#c2571a", "#1f5fa8", "#6b7280", "#e3e6ea"
_MESH = 9
"""Lines of the mesh along either side of the scan: enough to see a shear, few enough to read."""


def disk_positions(
    positions_px: NDArray[np.floating],
    mrad_per_pixel: float,
    *,
    state: str,
    limit_px: float | None = None,
    nominal: bool = False,
) -> Drawing:
    """The scan field as the disk's centre draws it on the detector, from the middle of the array.

    Without descan error the mesh is a point; its distance from the origin is the error of centring.

    Parameters
    ----------
    positions_px : array, shape (scan_y, scan_x, 2)
        Disk centre (y, x) less the middle of the detector [px].
    mrad_per_pixel : float
        Angle per pixel, for the second scale [mrad].
    state : str
        Which positions these are: ``before correction``, ``as recorded``.
    limit_px : float, optional
        Largest allowed peak-to-peak movement [px], drawn as a circle of that diameter.
    nominal : bool
        Whether the angle per pixel is the plan's, not a measured one.
    """
    title = f"Disk position, {state} [px]"
    axes = plot_axes(title, 4.1)
    mesh = _block_means(positions_px)
    span, middle = _peak_to_peak(mesh), _mean_of(mesh)
    off = float(np.hypot(*middle))
    for line in [*mesh, *mesh.swapaxes(0, 1)]:
        axes.plot(line[:, 1], line[:, 0], "-", color=_BLUE, linewidth=0.9)
    axes.plot(mesh[0, 0, 1], mesh[0, 0, 0], "o", color=_BLUE, markersize=5, label="scan position (0, 0)")
    said = (
        f"The disk moves by {number(span, 2)} px peak to peak over the scan and lies on average {number(off, 2)} px "
        f"from the middle of the detector (y {number(float(middle[0]), 2)}, x {number(float(middle[1]), 2)} px)."
    )
    seen = [mesh.reshape(-1, 2), np.zeros((1, 2))]
    if limit_px is not None:
        ring = Circle((middle[1], middle[0]), limit_px / 2, fill=False, color=_GREY, linestyle=":", linewidth=1.6)
        axes.add_patch(ring)
        axes.plot([], [], ":", color=_GREY, linewidth=1.6, label=f"limit, {number(limit_px, 2)} px across")
        seen += [middle[None] - limit_px / 2, middle[None] + limit_px / 2]
        said += f" The limit of the movement is {number(limit_px, 2)} px."
    axes.plot(0, 0, "+", color=INK, markersize=10, markeredgewidth=1.4, label="detector middle")
    _square_view(axes, np.concatenate(seen))
    how = " (nominal)" if nominal else ""
    axes.set_xlabel(f"x [px], 1 px = {mrad_per_pixel:.4g} mrad{how}", fontsize=TEXT_PT, color=INK)
    axes.set_ylabel("y [px]", fontsize=TEXT_PT, color=INK, labelpad=3)
    axes.grid(color=_GRID, linewidth=0.6)
    axes.legend(fontsize=TEXT_PT - 1, loc="best", framealpha=0.9, edgecolor="none", labelcolor=INK)
    return drawn(axes, title, f"{title}. {said}")


def drift(
    offsets_nm: NDArray[np.floating],
    passes: NDArray[np.integer],
    *,
    rate_nm_per_min: float | None = None,
    limit_nm_per_min: float | None = None,
) -> Drawing:
    """How far the specimen moved since the first pass.

    Parameters
    ----------
    offsets_nm : array, shape (n, 2)
        Shift (y, x) of each pass against the first [nm]; NaN where it could not be determined.
    passes : array, shape (n,)
        Numbers of the passes, from 1.
    rate_nm_per_min, limit_nm_per_min : float, optional
        Measured and tolerated rate as the run was judged by [nm/min].
    """
    title = "Drift between passes [nm]"
    axes = plot_axes(title, 3.3, legend_lines=2)
    distance = np.hypot(offsets_nm[:, 0], offsets_nm[:, 1])
    axes.plot(passes, distance, "o-", color=INK, linewidth=1.6, markersize=4, label="distance")
    axes.plot(passes, offsets_nm[:, 1], "s--", color=_BLUE, linewidth=1.1, markersize=3.5, label="x")
    axes.plot(passes, offsets_nm[:, 0], "^--", color=_ORANGE, linewidth=1.1, markersize=3.5, label="y")
    judged = f"rate {quantity(rate_nm_per_min, 'nm/min')}, limit {quantity(limit_nm_per_min, 'nm/min')}"
    axes.set_xlabel("pass", fontsize=TEXT_PT, color=INK)
    axes.set_ylabel("shift since pass 1 [nm]", fontsize=TEXT_PT, color=INK, labelpad=3)
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    axes.grid(color=_GRID, linewidth=0.6)
    legend_below(axes, axes.get_legend_handles_labels()[0], columns=3, line=1)
    axes.figure.text(0.03, 0.015, judged, fontsize=TEXT_PT - 1, color=INK)
    moved = f"By pass {passes[-1]} the specimen moved by {quantity(float(distance[-1]), 'nm')}"
    return drawn(axes, title, f"{title}. {moved}; {judged}.")


def _block_means(values: NDArray[np.floating]) -> NDArray[np.floating]:
    """Means over blocks of the scan: the specimen's own deflections average out, the scan's do not."""
    rows = np.array_split(np.arange(values.shape[0]), min(_MESH, values.shape[0]))
    columns = np.array_split(np.arange(values.shape[1]), min(_MESH, values.shape[1]))
    return np.array([[_mean_of(values[np.ix_(r, c)]) for c in columns] for r in rows])


def _mean_of(block: NDArray[np.floating]) -> NDArray[np.floating]:
    known = block.reshape(-1, 2)
    known = known[np.isfinite(known).all(axis=1)]
    return known.mean(axis=0) if len(known) else np.full(2, np.nan)


def _peak_to_peak(mesh: NDArray[np.floating]) -> float:
    points = mesh.reshape(-1, 2)
    return float(np.max(np.nanmax(points, axis=0) - np.nanmin(points, axis=0)))


def _square_view(axes: Axes, points: NDArray[np.floating]) -> None:
    low, high = np.nanmin(points, axis=0), np.nanmax(points, axis=0)
    half = max(float((high - low).max()) * 0.6, 0.5)
    middle = (low + high) / 2
    axes.set_xlim(middle[1] - half, middle[1] + half)
    # As on the detector: y counts downwards.
    axes.set_ylim(middle[0] + half, middle[0] - half)
    axes.set_aspect("equal")
