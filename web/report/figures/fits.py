"""Draws a calibration's fit on its data: circles on a pattern, a radial profile, a plane of positions, lines."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.colors import AsinhNorm
from matplotlib.lines import Line2D
from matplotlib.patches import Ellipse
from matplotlib.patheffects import withStroke
from numpy.typing import NDArray

from web.report.figures.canvas import (
    INK,
    TEXT_PT,
    Drawing,
    colour_bar,
    drawn,
    image_panel,
    legend_below,
    plot_axes,
    with_bad,
)
from web.report.text import number

_DATA, _FIT, _GREY, _GRID = "#1f5fa8", "#c2571a", "#6b7280", "#e3e6ea"
_ON_DARK, _BAD = "#ffb454", "#ff6b6b"
PROFILE_STEP_PX = 0.5
MOST_SAID = 8
"""Rings told in words; the picture has more."""
MOST_RINGS = 60


def pattern_with_rings(
    pattern: NDArray[np.generic], rings: Sequence[Mapping[str, Any]], invalid: NDArray[np.bool_], title: str
) -> Drawing:
    """A mean pattern on the detector's pixels with fitted circles and ellipses, bad pixels ringed in red.

    Parameters
    ----------
    pattern : array, shape (det_y, det_x)
        Counts per frame.
    rings : sequence of mapping
        ``centre_px`` (y, x), ``radius_px``, and where it is an ellipse ``ellipticity`` and ``ellipse_angle_deg``
        (long axis, from x towards y); ``label``.
    invalid : array of bool, shape (det_y, det_x)
        Bad pixels.
    title : str
        Quantity and unit.
    """
    values = np.ma.masked_array(np.asarray(pattern, dtype=np.float64), invalid)
    rows, columns = values.shape
    extent = (-0.5, columns - 0.5, rows - 0.5, -0.5)
    shown, bar_axes = image_panel(values, title, extent=extent, legend_lines=1)
    peak = float(values.max()) if values.count() else 1.0
    shown.set(cmap=with_bad(colormaps["gray"]), norm=AsinhNorm(max(peak / 100, 1e-9), 0.0, max(peak, 1e-9)))
    colour_bar(shown, bar_axes, "counts per frame (asinh scale)").minorticks_off()
    axes = shown.axes
    axes.set_xlabel("detector x [px]", fontsize=TEXT_PT, color=INK)
    axes.set_ylabel("detector y [px]", fontsize=TEXT_PT, color=INK, labelpad=3)
    said = []
    for ring in rings[:MOST_RINGS]:
        (y, x), radius = ring["centre_px"], ring["radius_px"]
        ratio = 1 + ring.get("ellipticity", 0.0)
        # The geometric mean of the axes is the radius.
        long, short = 2 * radius * np.sqrt(ratio), 2 * radius / np.sqrt(ratio)
        patch = Ellipse((x, y), long, short, angle=ring.get("ellipse_angle_deg", 0.0), fill=False, color=_ON_DARK)
        patch.set(linewidth=1.2, path_effects=[withStroke(linewidth=2.6, foreground="#00000080")])
        axes.add_patch(patch)
        if len(said) >= MOST_SAID:
            continue
        said.append(f"{ring['label']} of {number(radius)} px about row {number(y)}, column {number(x)}")
    handles = [Line2D([], [], color=_ON_DARK, linewidth=1.6, label="fit")] if said else []
    if invalid.any():
        # A single pixel is smaller than a screen's: a ring around each tells where to look.
        at_y, at_x = np.nonzero(invalid)
        label = f"{len(at_y)} bad pixels"
        handles += axes.plot(at_x, at_y, "o", markersize=6, fillstyle="none", color=_BAD, linestyle="", label=label)
    if handles:
        legend_below(axes, handles, columns=2)
    fitted = f" Fitted: {'; '.join(said)}." if said else ""
    return drawn(shown, title, f"{title}, {rows} by {columns} pixels, {int(invalid.sum())} of them bad.{fitted}")


def radial_profile(
    pattern: NDArray[np.generic],
    centre_px: tuple[float, float],
    radius_px: float,
    width_px: float | None,
    invalid: NDArray[np.bool_],
) -> Drawing:
    """Counts against the distance from the fitted centre, with the fitted edge.

    ``width_px`` is the standard deviation of the edge's blur; without it only the radius is drawn.
    """
    title = "Radial profile of the disk [counts per frame]"
    axes = plot_axes(title, 3.2, legend_lines=1)
    y, x = np.indices(pattern.shape)
    distance = np.hypot(y - centre_px[0], x - centre_px[1])
    use = ~invalid & (distance < 1.8 * radius_px)
    bins = (distance[use] / PROFILE_STEP_PX).astype(np.intp)
    count = np.bincount(bins)
    seen = count > 0
    mean = np.bincount(bins, weights=np.asarray(pattern, np.float64)[use])[seen] / count[seen]
    at = np.bincount(bins, weights=distance[use])[seen] / count[seen]
    handles = axes.plot(at, mean, "o", color=_DATA, markersize=3, label="mean over circles")
    if width_px:
        inside = float(np.median(mean[at < 0.8 * radius_px])) if (at < 0.8 * radius_px).any() else float(mean.max())
        outside = float(np.median(mean[at > 1.3 * radius_px])) if (at > 1.3 * radius_px).any() else 0.0
        fine = np.linspace(0, 1.8 * radius_px, 400)
        handles += axes.plot(fine, outside + (inside - outside) * _below(radius_px - fine, width_px), "-", color=_FIT,
                             linewidth=1.4, label="fitted edge")  # fmt: skip
    axes.axvline(radius_px, color=_FIT, linestyle=":", linewidth=1.4)
    _labels(axes, "distance from the centre [px]", "counts per frame")
    legend_below(axes, handles, columns=2)
    return drawn(axes, title, f"{title}. The fitted edge lies at {number(radius_px)} px from the centre.")


def _below(distance: NDArray[np.float64], width: float) -> NDArray[np.float64]:
    from scipy.special import ndtr

    return np.asarray(ndtr(distance / width), dtype=np.float64)


def positions_with_plane(positions_px: NDArray[np.floating], plane_px: NDArray[np.floating], state: str) -> Drawing:
    """Disk positions along the scan's middle lines, with the fitted plane.

    Parameters
    ----------
    positions_px, plane_px : array, shape (scan_y, scan_x, 2)
        (y, x) on the detector [px], measured and fitted.
    state : str
        ``before correction``, ``after correction``.
    """
    title = f"Disk position over the scan, {state} [px]"
    axes = plot_axes(title, 3.4, legend_lines=2)
    middle = np.nanmean(positions_px, axis=(0, 1))
    handles: list[Line2D] = []
    for along, colour, marker in ((0, _DATA, "o"), (1, _FIT, "s")):
        # Mean over the other axis of the scan: what is left is the slope and its noise.
        seen, fitted = (np.nanmean(values, axis=1 - along) - middle for values in (positions_px, plane_px))
        at = np.arange(len(seen)) - (len(seen) - 1) / 2
        for component, style in ((0, "-"), (1, "--")):
            name = f"{'yx'[component]} along scan {'yx'[along]}"
            axes.plot(at, fitted[:, component], style, color=colour, linewidth=1.2)
            handles += axes.plot(at, seen[:, component], marker, color=colour, markersize=3.2, label=name,
                                 markerfacecolor="white" if component else colour)  # fmt: skip
    _labels(axes, "position along the scan, from its middle", "disk from its mean [px]")
    legend_below(axes, handles, columns=2)
    left = positions_px - plane_px
    rms = float(np.sqrt(np.nanmean((left - np.nanmean(left, axis=(0, 1))) ** 2)))
    return drawn(axes, title, f"{title}. Points are measured, lines are the plane; rms about it {number(rms)} px.")


def totals(counts: NDArray[np.generic], expected: float) -> Drawing:
    """How many counts the patterns of a vacuum scan had, against what the commanded current makes."""
    title = "Counts of a vacuum pattern"
    axes = plot_axes(title, 3.0, legend_lines=1)
    values = np.asarray(counts, dtype=np.float64).ravel()
    axes.hist(values, bins=min(40, max(5, values.size // 8)), color=_DATA, alpha=0.75)
    mean = float(values.mean())
    axes.axvline(mean, color=_FIT, linewidth=1.6)
    axes.axvline(expected, color=_GREY, linestyle=":", linewidth=1.6)
    _labels(axes, "counts in a pattern", "patterns")
    handles = [
        Line2D([], [], color=_FIT, linewidth=1.6, label="mean"),
        Line2D([], [], color=_GREY, linestyle=":", linewidth=1.6, label="at the commanded current"),
    ]
    legend_below(axes, handles, columns=2)
    said = f"{title}: {number(mean)} on average, {number(expected)} expected of the commanded current."
    return drawn(axes, title, said)


def curve(title: str, curves: Mapping[str, Any]) -> Drawing:
    """Data against a fit, from the figures that the measurement left: ``x``, ``data``, and ``fit`` or ``mark``."""
    axes = plot_axes(title, 3.2, legend_lines=1)
    handles = axes.plot(curves["x"], curves["data"], "o", color=_DATA, markersize=3.2, label="measured")
    if curves.get("fit") is not None:
        handles += axes.plot(curves["x"], curves["fit"], "-", color=_FIT, linewidth=1.4, label="fit")
    if curves.get("mark") is not None:
        handles.append(axes.axvline(curves["mark"], color=_FIT, linewidth=1.4, label=f"{number(curves['mark'])}"))
    _labels(axes, curves["x_label"], curves["y_label"])
    legend_below(axes, handles, columns=3)
    return drawn(axes, title, f"{title}: {len(curves['x'])} points, {curves['y_label']} against {curves['x_label']}.")


def image(label: str, values: NDArray[np.float64]) -> Drawing:
    """One image over the scan, as the measurement left it: contrast about a mean of 1."""
    rows, columns = values.shape
    shown, bar_axes = image_panel(values, label, extent=(-0.5, columns - 0.5, rows - 0.5, -0.5), legend_lines=0)
    shown.set(cmap=colormaps["gray"], clim=(float(values.min()), float(values.max())))
    colour_bar(shown, bar_axes, "counts over their mean")
    axes = shown.axes
    axes.set_xlabel("scan x [positions]", fontsize=TEXT_PT, color=INK)
    axes.set_ylabel("scan y [positions]", fontsize=TEXT_PT, color=INK, labelpad=3)
    contrast = f"{float(values.std() / abs(values.mean())):.2%}"
    return drawn(shown, label, f"{label}, {rows} by {columns} positions, contrast {contrast} rms.")


def _labels(axes: Any, x: str, y: str) -> None:
    axes.set_xlabel(x, fontsize=TEXT_PT, color=INK)
    axes.set_ylabel(y, fontsize=TEXT_PT, color=INK, labelpad=3)
    axes.grid(color=_GRID, linewidth=0.6)
