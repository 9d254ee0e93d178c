"""Draws a calibration's fit on its data: circles on a pattern, a radial profile, a plane of positions, lines."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.colors import AsinhNorm
from matplotlib.lines import Line2D
from matplotlib.patches import Ellipse
from numpy.typing import NDArray

from web.report.figures.canvas import (
    INK,
    MASKED_COLOUR,
    TEXT_PT,
    Drawing,
    colour_bar,
    decade_ticks,
    drawn,
    image_panel,
    legend_below,
    masked_handle,
    plot_axes,
    with_bad,
)
from web.report.text import number

_DATA, _FIT, _GREY, _GRID = "#1f5fa8", "#c2571a", "#6b7280", "#e3e6ea"
_ON_DARK = "#ffb454"
PROFILE_STEP_PX = 0.5
MOST_SAID = 8
"""Rings told in words; the picture has more."""
MOST_RINGS = 60
CENTRAL_RADII = 2.0
"""Radii of the central disk beyond which its glare ends."""


def pattern_with_rings(
    pattern: NDArray[np.generic], rings: Sequence[Mapping[str, Any]], invalid: NDArray[np.bool_], title: str
) -> Drawing:
    """A mean pattern on the detector's pixels with fitted circles and ellipses, bad pixels in a colour of their own.

    Where there are rings beside the first, which is the central disk, the scale is that of what lies outside it.

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
    shown, bar_axes = image_panel(values, title, extent=extent, legend_lines=2)
    peak, cut = _peak(values, rings)
    shown.set(cmap=with_bad(colormaps["gray"], MASKED_COLOUR), norm=AsinhNorm(peak / 20, 0.0, peak))
    bar = colour_bar(shown, bar_axes, "counts per frame (asinh scale)", "max" if cut else "neither")
    ticks = decade_ticks(peak, 1e-12)
    bar.set_ticks(ticks, labels=[number(tick) for tick in ticks])
    bar.minorticks_off()
    axes = shown.axes
    axes.set_xlabel("detector x [px]", fontsize=TEXT_PT, color=INK)
    axes.set_ylabel("detector y [px]", fontsize=TEXT_PT, color=INK, labelpad=3)
    said: list[str] = []
    for ring in rings[:MOST_RINGS]:
        (y, x), radius = ring["centre_px"], ring["radius_px"]
        ratio = 1 + ring.get("ellipticity", 0.0)
        # The geometric mean of the axes is the radius.
        long, short = 2 * radius * np.sqrt(ratio), 2 * radius / np.sqrt(ratio)
        patch = Ellipse((x, y), long, short, angle=ring.get("ellipse_angle_deg", 0.0), fill=False, color=_ON_DARK)
        # Thin and broken, so that what it was fitted to stays visible.
        patch.set(linewidth=0.8, linestyle=(0, (3, 4)))
        axes.add_patch(patch)
        if len(said) >= MOST_SAID:
            continue
        said.append(f"{ring['label']} of {number(radius)} px about row {number(y)}, column {number(x)}")
    names = list(dict.fromkeys(ring["label"] for ring in rings))
    handles = [Line2D([], [], color=_ON_DARK, linewidth=1.2, linestyle="--", label=", ".join(names))] if said else []
    if invalid.any():
        # A single pixel is smaller than a screen's: a ring around each tells where to look.
        at_y, at_x = np.nonzero(invalid)
        axes.plot(
            at_x, at_y, "o", markersize=6, fillstyle="none", color=MASKED_COLOUR, linestyle="", markeredgewidth=0.8
        )
        handles.append(masked_handle(len(at_y)))
    if handles:
        legend_below(axes, handles, columns=1)
    fitted = f" Fitted: {'; '.join(said)}." if said else ""
    return drawn(shown, title, f"{title}, {rows} by {columns} pixels, {int(invalid.sum())} of them bad.{fitted}")


def _peak(values: np.ma.MaskedArray, rings: Sequence[Mapping[str, Any]]) -> tuple[float, bool]:
    """The value that is drawn white, and whether good pixels lie above it."""
    good = values.compressed()
    if not good.size or not good.max() > 0:
        return 1.0, False
    outside = good
    if len(rings) > 1:
        (y, x), radius = rings[0]["centre_px"], rings[0]["radius_px"]
        rows, columns = np.indices(values.shape)
        beyond = np.hypot(rows - y, columns - x) > CENTRAL_RADII * radius
        outside = values[beyond].compressed() if values[beyond].count() else good
    # A few pixels that no mask knows yet must not make the rest black.
    peak = float(np.percentile(outside, 99.9))
    peak = peak if peak > 0 else float(good.max())
    return peak, bool(good.max() > 1.05 * peak)


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
    labelled(axes, "distance from the centre [px]", "counts per frame")
    legend_below(axes, handles, columns=2)
    return drawn(axes, title, f"{title}. The fitted edge lies at {number(radius_px)} px from the centre.")


def _below(distance: NDArray[np.float64], width: float) -> NDArray[np.float64]:
    from scipy.special import ndtr

    return np.asarray(ndtr(distance / width), dtype=np.float64)


def positions_with_plane(
    positions_px: NDArray[np.floating], plane_px: NDArray[np.floating], step_nm: float, state: str
) -> Drawing:
    """Disk positions along the scan's middle lines, with the fitted plane.

    Parameters
    ----------
    positions_px, plane_px : array, shape (scan_y, scan_x, 2)
        (y, x) on the detector [px], measured and fitted.
    step_nm : float
        Between positions of the scan [nm].
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
        at = (np.arange(len(seen)) - (len(seen) - 1) / 2) * step_nm
        for component, style in ((0, "-"), (1, "--")):
            name = f"detector {'yx'[component]} along scan {'yx'[along]}"
            axes.plot(at, fitted[:, component], style, color=colour, linewidth=1.2)
            handles += axes.plot(at, seen[:, component], marker, color=colour, markersize=3.2, label=name,
                                 markerfacecolor="white" if component else colour)  # fmt: skip
    labelled(axes, "scan position from the middle of the field [nm]", "disk from its mean [px]")
    legend_below(axes, handles, columns=2)
    left = positions_px - plane_px
    rms = float(np.sqrt(np.nanmean((left - np.nanmean(left, axis=(0, 1))) ** 2)))
    rows, columns = positions_px.shape[:2]
    field = f"Field of {number(rows * step_nm, 3)} nm (y) by {number(columns * step_nm, 3)} nm (x)."
    return drawn(
        axes, title, f"{title}. Points are measured, lines are the plane; rms about it {number(rms)} px. {field}"
    )


def totals(counts: NDArray[np.generic], expected: float) -> Drawing:
    """How many counts the patterns of a vacuum scan had, against what the commanded current makes."""
    title = "Counts of a vacuum pattern"
    axes = plot_axes(title, 3.0, legend_lines=1)
    values = np.asarray(counts, dtype=np.float64).ravel()
    axes.hist(values, bins=min(40, max(5, values.size // 8)), color=_DATA, alpha=0.75)
    mean = float(values.mean())
    axes.axvline(mean, color=_FIT, linewidth=1.6)
    axes.axvline(expected, color=_GREY, linestyle=":", linewidth=1.6)
    labelled(axes, "counts in a pattern", "patterns")
    handles = [
        Line2D([], [], color=_FIT, linewidth=1.6, label="mean"),
        Line2D([], [], color=_GREY, linestyle=":", linewidth=1.6, label="at the commanded current"),
    ]
    legend_below(axes, handles, columns=2)
    said = f"{title}: {number(mean)} on average, {number(expected)} expected of the commanded current."
    return drawn(axes, title, said)


def curve(title: str, curves: Mapping[str, Any]) -> Drawing:
    """Data against a fit, from the figures that the measurement left: ``x``, ``data``, and ``fit``."""
    axes = plot_axes(title, 3.2, legend_lines=1)
    handles = axes.plot(curves["x"], curves["data"], "o", color=_DATA, markersize=3.2, label="measured")
    if curves.get("fit") is not None:
        handles += axes.plot(curves["x"], curves["fit"], "-", color=_FIT, linewidth=1.4, label="fit")
    labelled(axes, curves["x_label"], curves["y_label"])
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


def labelled(axes: Any, x: str, y: str) -> None:
    """Name both axes and draw the grid."""
    axes.set_xlabel(x, fontsize=TEXT_PT, color=INK)
    axes.set_ylabel(y, fontsize=TEXT_PT, color=INK, labelpad=3)
    axes.grid(color=_GRID, linewidth=0.6)
