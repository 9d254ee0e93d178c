"""Draws diffraction patterns in mrad, with the bright-field disk and the virtual detectors on them."""

from dataclasses import dataclass

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.colors import AsinhNorm
from matplotlib.lines import Line2D
from matplotlib.patches import Circle
from matplotlib.patheffects import withStroke
from numpy.typing import NDArray

from stem4d.plan import VirtualDetector
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
    with_bad,
)
from web.report.text import listed, number

# Distinct to every kind of colour vision (after Okabe and Ito) and light enough for a dark pattern.
_LINE_COLOURS = ("#56b4e9", "#e69f00", "#f0e442", "#2fd6a3", "#ff7f50", "#e08fc0")
_DISK_COLOUR = "#ffffff"
_CLIPPED_COLOUR = "#ff2d2d"


HOT = 20.0
"""Times the brightest of a thousand pixels beyond which a mean is that of a faulty pixel."""


@dataclass(frozen=True)
class _Kind:
    name: str
    unit: str
    least: float
    """Smallest value worth telling from zero."""


_MEAN, _MAXIMUM = _Kind("Mean pattern", "counts per frame", 1e-12), _Kind("Maximum pattern", "counts", 1.0)


@dataclass(frozen=True)
class PatternGeometry:
    """Where the pattern lies on the detector: centre (y, x) as pixel-centre index [px]."""

    mrad_per_pixel: float
    centre_px: tuple[float, float]
    convergence_semi_angle_mrad: float
    detectors: tuple[VirtualDetector, ...] = ()
    nominal: tuple[str, ...] = ()
    """What of it is as the plan has it and was not measured: ``angle``, ``convergence``."""

    def extent_mrad(self, shape: tuple[int, int]) -> tuple[float, float, float, float]:
        """Edges of the array (left, right, bottom, top) [mrad] as seen from the centre."""
        (rows, columns), (y, x), scale = shape, self.centre_px, self.mrad_per_pixel
        return (-0.5 - x) * scale, (columns - 0.5 - x) * scale, (rows - 0.5 - y) * scale, (-0.5 - y) * scale


def mean_pattern(
    pattern: NDArray[np.generic], geometry: PatternGeometry, invalid: NDArray[np.bool_] | None = None
) -> Drawing:
    """The pattern averaged over the scan, shape (det_y, det_x) [counts per frame]."""
    return _pattern(pattern, geometry, _MEAN, invalid, None)


def maximum_pattern(
    pattern: NDArray[np.generic],
    geometry: PatternGeometry,
    invalid: NDArray[np.bool_] | None = None,
    full_scale: int | None = None,
) -> Drawing:
    """The highest value that each pixel had anywhere in the scan, shape (det_y, det_x) [counts].

    Pixels that reached ``full_scale`` are drawn in red: what they had to count is not known.
    """
    return _pattern(pattern, geometry, _MAXIMUM, invalid, full_scale)


def _pattern(
    pattern: NDArray[np.generic],
    geometry: PatternGeometry,
    kind: _Kind,
    invalid: NDArray[np.bool_] | None,
    full_scale: int | None,
) -> Drawing:
    name, unit = kind.name, kind.unit
    hidden = ~np.isfinite(np.asarray(pattern, dtype=np.float64))
    if invalid is not None:
        hidden |= invalid
    values = np.ma.masked_array(np.asarray(pattern, dtype=np.float64), hidden)
    peak = float(values.max()) if values.count() else 0.0
    cut = False
    usual = float(np.percentile(values.compressed(), 99.9)) if values.count() else 0.0
    if kind is _MEAN and peak > HOT * usual > 0:
        # Pixels that no mask knows yet must not make the rest black.
        peak, cut = usual, True
    clipped = np.zeros(values.shape, bool) if full_scale is None else values.filled(-1) >= full_scale
    marks = 1 + len(geometry.detectors) + bool(clipped.any()) + bool(hidden.any())
    shown, bar_axes = image_panel(
        values, f"{name} [{unit}]", extent=geometry.extent_mrad(values.shape), legend_lines=(marks + 1) // 2
    )
    linear_below = max(peak / 100, kind.least)
    shown.set(cmap=with_bad(colormaps["gray"], MASKED_COLOUR), norm=AsinhNorm(linear_below, 0.0, max(peak, 1e-9)))
    bar = colour_bar(shown, bar_axes, f"{unit} (asinh scale)", "max" if cut else "neither")
    ticks = decade_ticks(peak, kind.least)
    bar.set_ticks(ticks, labels=[number(tick) for tick in ticks])
    bar.minorticks_off()
    axes = shown.axes
    nominally = ", nominal" if "angle" in geometry.nominal else ""
    axes.set_xlabel(f"angle x [mrad]{nominally}", fontsize=TEXT_PT, color=INK)
    axes.set_ylabel("angle y [mrad]", fontsize=TEXT_PT, color=INK, labelpad=3)
    handles = _draw_rings(axes, geometry)
    if clipped.any():
        layer = np.zeros((*values.shape, 4))
        layer[clipped] = (1.0, 0.18, 0.18, 1.0)
        axes.imshow(layer, extent=geometry.extent_mrad(values.shape), origin="upper", aspect="auto")
        label = f"{int(clipped.sum())} px at full scale"
        handles.append(Line2D([], [], color=_CLIPPED_COLOUR, marker="s", linestyle="", label=label))
    if hidden.any():
        handles.append(masked_handle(int(hidden.sum())))
    legend_below(axes, handles, columns=2)
    return drawn(shown, f"{name} [{unit}]", _said(name, unit, values, geometry, clipped, full_scale))


def _draw_rings(axes: Axes, geometry: PatternGeometry) -> list[Line2D]:
    alpha = geometry.convergence_semi_angle_mrad
    outline = [withStroke(linewidth=2.6, foreground="#00000080")]
    axes.add_patch(
        Circle((0, 0), alpha, fill=False, color=_DISK_COLOUR, linewidth=1.2, path_effects=outline, label="disk")
    )
    handles = [Line2D([], [], color="#8a9099", linewidth=1.4, label=f"disk, {alpha:.4g} mrad{_how(geometry)}")]
    for index, detector in enumerate(geometry.detectors):
        colour = _LINE_COLOURS[index % len(_LINE_COLOURS)]
        dashes = (index * 2.0, (4, 2)) if index < len(_LINE_COLOURS) else (0, (1, 1.5))
        for radius in (detector.inner_mrad, detector.outer_mrad):
            if radius > 0:
                ring = Circle((0, 0), radius, fill=False, color=colour, linewidth=1.4, linestyle=dashes)
                ring.set(path_effects=outline, label=detector.name)
                axes.add_patch(ring)
        label = f"{_short(detector.name)}, {detector.inner_mrad:.3g} to {detector.outer_mrad:.3g} mrad"
        handles.append(Line2D([], [], color=colour, linewidth=1.8, linestyle=(0, dashes[1]), label=label))
    return handles


def _how(geometry: PatternGeometry) -> str:
    return " (nominal)" if "convergence" in geometry.nominal else ""


def _short(name: str) -> str:
    return name if len(name) <= 14 else f"{name[:13]}…"


def _said(
    name: str,
    unit: str,
    values: np.ma.MaskedArray,
    geometry: PatternGeometry,
    clipped: NDArray[np.bool_],
    full_scale: int | None,
) -> str:
    y, x = geometry.centre_px
    parts = [
        f"{name} of {values.shape[0]} by {values.shape[1]} pixels on an asinh scale, highest value "
        f"{number(float(values.max()) if values.count() else None)} {unit}.",
        f"A circle marks the bright-field disk of {geometry.convergence_semi_angle_mrad:.4g} mrad{_how(geometry)} "
        f"centred at row {y:.1f}, column {x:.1f}.",
    ]
    if geometry.detectors:
        rings = (f"{d.name} from {d.inner_mrad:.3g} to {d.outer_mrad:.3g} mrad" for d in geometry.detectors)
        parts.append(f"Dashed rings mark {listed(rings)}.")
    if full_scale is not None:
        parts.append(f"{int(clipped.sum())} pixels reached the full scale of {full_scale} counts.")
    return " ".join(parts)
