"""Draws a map that an analysis came to, in nm, with its unit and how sure it is."""

from collections.abc import Mapping
from math import pi

import numpy as np
from matplotlib import colormaps
from numpy.typing import NDArray

from stem4d.analyse.method import Kind, Picture
from web.report.figures.canvas import Drawing, clip_range, colour_bar, drawn, image_panel, with_bad
from web.report.figures.maps import extent_nm, real_space
from web.report.text import number

_COLOURS: Mapping[Kind, str] = {"intensity": "gray", "signed": "RdBu_r", "angle": "twilight", "share": "viridis"}
"""All of them perceptual: equal steps of a value look equal. Printed in grey the two ends of ``signed`` look alike, and
those of ``angle`` on either side of its middle."""
PERIOD = {"deg": 360.0, "rad": 2 * pi}
"""Of an angle, by its unit."""


def outcome_map(picture: Picture) -> Drawing:
    """One map, NaN drawn as no data; its title says the median of its standard uncertainties."""
    values = np.asarray(picture.values, dtype=np.float64)
    unit = f" [{picture.unit}]" if picture.unit else ""
    sure = _sure(picture)
    title = f"{picture.title}{unit}{sure}"
    low, high, cut = _limits(values, picture)
    shown, bar_axes = image_panel(np.ma.masked_invalid(values), title, extent=extent_nm(values.shape, picture.pixel_nm))
    shown.set(cmap=with_bad(colormaps[_COLOURS[picture.kind]]), clim=(low, high))
    colour_bar(shown, bar_axes, picture.unit or picture.title, cut)
    field = real_space(shown.axes, values, picture.pixel_nm)
    said = f"Colour scale from {number(low, 3)} to {number(high, 3)} {picture.unit}."
    return drawn(shown, title, f"{title}. {field} {said}")


def _limits(values: NDArray[np.float64], picture: Picture) -> tuple[float, float, str]:
    kind = picture.kind
    if kind == "share":
        return 0.0, 1.0, "neither"
    if not np.isfinite(values).any():
        return 0.0, 1.0, "neither"
    if kind == "signed":
        end = float(np.nanpercentile(np.abs(values), 99.5)) or 1.0
        return -end, end, "both" if float(np.nanmax(np.abs(values))) > end else "neither"
    if kind == "angle":
        # Once round, whatever the values: no colour is two directions, and small differences look small.
        period = PERIOD.get(picture.unit, 360.0)
        low = -period / 2 if float(np.nanmin(values)) < 0 else 0.0
        return low, low + period, "neither"
    return clip_range(values)


def _sure(picture: Picture) -> str:
    if picture.uncertainty is None or not np.isfinite(picture.uncertainty).any():
        return ""
    said = f"± {number(float(np.nanmedian(picture.uncertainty)), 2)} each"
    # No line breaks within it.
    return f", {said}".replace(said, said.replace(" ", "\N{NO-BREAK SPACE}"))
