"""The sheet every picture is drawn on: sizes, image panels, colour and scale bars, and the encoding."""

from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from math import floor, isclose, log10
from textwrap import fill

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.colorbar import Colorbar
from matplotlib.colors import Colormap
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, MaxNLocator, ScalarFormatter
from mpl_toolkits.axes_grid1.anchored_artists import AnchoredSizeBar
from numpy.typing import NDArray

from web.report.values import Picture

CSS_PIXELS_PER_INCH = 100
"""A figure inch on the page. With this, 9 pt is 12.5 CSS pixels and 10 on a phone."""
PANEL_WIDTH_IN = 4.4
TEXT_PT = 9.0
INK = "#1b1f24"
NO_DATA_COLOUR = "#e8c9c9"
MASKED_COLOUR = "#d6218f"
"""Of masked pixels, whatever their neighbours count."""
_LEFT, _BOTTOM, _RIGHT, _LINE, _LEGEND_LINE = 0.62, 0.55, 0.98, 0.19, 0.172
_ROOM_FOR_BAR_IN = (1.0, 0.6)
_WIDEST, _TALLEST, _LOWEST = PANEL_WIDTH_IN - _LEFT - _RIGHT, 3.4, 0.12


@dataclass(frozen=True)
class Drawing:
    """A figure with the words that belong to it: what stands under it, and what it says to those who cannot see it."""

    figure: Figure
    title: str
    alt: str


def drawn(artist: Artist, title: str, alt: str) -> Drawing:
    """The drawing that an artist stands on."""
    figure = artist.get_figure(root=True)
    assert figure is not None
    return Drawing(figure, title, alt)


def as_picture(drawing: Drawing, scale: float = 2.0) -> Picture:
    """A PNG for screens of so many times the page's resolution."""
    buffer = BytesIO()
    drawing.figure.savefig(buffer, format="png", dpi=scale * CSS_PIXELS_PER_INCH, metadata={"Software": None})
    width_px = round(drawing.figure.get_figwidth() * CSS_PIXELS_PER_INCH)
    height_px = round(drawing.figure.get_figheight() * CSS_PIXELS_PER_INCH)
    return Picture(drawing.title, drawing.alt, "image/png", buffer.getvalue(), width_px, height_px)


def sheet(height_in: float) -> Figure:
    """An empty figure, bound to no window and no global state."""
    return Figure(figsize=(PANEL_WIDTH_IN, height_in), dpi=CSS_PIXELS_PER_INCH, facecolor="white")


def plot_axes(title: str, height_in: float, *, left_in: float = _LEFT, legend_lines: int = 0) -> Axes:
    """Axes for a line plot on a sheet of their own, with room for lines of text below them."""
    figure = sheet(height_in)
    titled, lines = _wrapped(title, left_in)
    bottom_in = _BOTTOM + legend_lines * _LEGEND_LINE
    height = height_in - bottom_in - lines * _LINE - 0.12
    axes = figure.add_axes(_fraction(figure, left_in, bottom_in, PANEL_WIDTH_IN - left_in - 0.18, height))
    _dress(axes, titled)
    return axes


def image_panel(
    image: NDArray[np.generic], title: str, *, extent: tuple[float, float, float, float], legend_lines: int = 0
) -> tuple[AxesImage, Axes]:
    """An image with square pixels, row 0 at the top, and empty axes beside it for its colour bar.

    Parameters
    ----------
    image : array, shape (rows, columns) or (rows, columns, 3)
        What is shown; masked values are drawn in ``NO_DATA_COLOUR``.
    title : str
        Quantity and unit.
    extent : tuple of float
        (left, right, bottom, top) edges in the unit of the axes.
    legend_lines : int
        Lines of text to keep free below the image.
    """
    left, right, bottom, top = extent
    # Pixels are as high as they are wide in the unit of the axes: the steps of a scan may differ.
    ratio = abs((bottom - top) / (right - left))
    width = min(_WIDEST, _TALLEST / ratio)
    height = max(width * ratio, _LOWEST)
    titled, lines = _wrapped(title, _LEFT)
    # A colour bar needs room for its numbers even beside a scan of a single row.
    room = max(height, 1.1)
    below = _BOTTOM + legend_lines * _LEGEND_LINE
    figure = sheet(below + room + lines * _LINE + 0.12)
    lift = (room - height) / 2
    axes = figure.add_axes(_fraction(figure, _LEFT, below + lift, width, height))
    bar_axes = figure.add_axes(_fraction(figure, _LEFT + width + 0.1, below, 0.13, room))
    _dress(axes, titled)
    shown = axes.imshow(image, extent=extent, origin="upper", aspect="auto", interpolation="auto")
    for axis, most in ((axes.xaxis, width / 0.45), (axes.yaxis, height / 0.3)):
        # No more labels than a short side can carry.
        axis.set_major_locator(MaxNLocator(min(6, int(most)), steps=[1, 2, 5, 10]) if most >= 2 else FixedLocator([0]))
    return shown, bar_axes


def legend_below(axes: Axes, handles: Sequence[Artist], columns: int, line: int = 0) -> None:
    """A legend at the foot of the sheet, as many lines above its edge."""
    foot = line * _LEGEND_LINE / axes.figure.bbox.height * CSS_PIXELS_PER_INCH
    axes.figure.legend(
        handles=handles,
        loc="lower left",
        bbox_to_anchor=(0.02, foot),
        ncols=columns,
        fontsize=TEXT_PT - 1,
        frameon=False,
        labelcolor=INK,
        handlelength=1.8,
        columnspacing=1.0,
        handletextpad=0.5,
        borderaxespad=0.2,
        labelspacing=0.35,
    )


def with_bad(colours: Colormap, bad: str = NO_DATA_COLOUR) -> Colormap:
    """The same colours, with missing data in a colour that none of them has."""
    return colours.with_extremes(bad=bad)


def masked_handle(pixels: int) -> Line2D:
    """The legend's entry for masked pixels."""
    label = f"{pixels} bad pixel{'s' * (pixels != 1)}, left out"
    return Line2D([], [], color=MASKED_COLOUR, marker="s", linestyle="", markersize=5, label=label)


def colour_bar(shown: AxesImage, bar_axes: Axes, label: str, extend: str = "neither") -> Colorbar:
    """The colour bar of an image, labelled with quantity and unit."""
    bar = bar_axes.figure.colorbar(shown, cax=bar_axes, extend=extend)
    if isinstance(bar.formatter, ScalarFormatter):
        bar.formatter.set_powerlimits((-3, 5))  # longer numbers push the label off the sheet
        bar_axes.yaxis.get_offset_text().set(size=TEXT_PT - 1, color=INK, ha="left")
    bar.set_label(label, labelpad=1.0, fontsize=TEXT_PT, color=INK)
    bar_axes.tick_params(labelsize=TEXT_PT - 1, colors=INK, width=0.6, length=3)
    return bar


def decade_ticks(peak: float, least: float) -> list[float]:
    """Zero, two decades, and the round number next below the peak; an asinh axis crowds at its lower end."""
    if peak <= 0:
        return [0.0]
    decade = 10.0 ** np.floor(np.log10(peak))
    top = int(peak / decade * (1 + 1e-9)) * decade
    return [
        0.0,
        *(float(f"{tick:.0e}") for tick in sorted({decade / 10, decade, top}) if tick > peak / 60 and tick >= least),
    ]


def clip_range(image: NDArray[np.generic], percent: float = 0.2) -> tuple[float, float, str]:
    """Lowest and highest value to show, and where the colour bar is cut: ``neither``, ``min``, ``max`` or ``both``.

    A few outlying positions must not flatten the rest: ``percent`` of them may be cut at either end.
    """
    finite = np.asarray(image, dtype=np.float64)
    ordered = np.sort(finite[np.isfinite(finite)])
    if ordered.size == 0:
        return 0.0, 1.0, "neither"
    cut = int(ordered.size * percent / 100)
    lowest, low, high, highest = (float(ordered[at]) for at in (0, cut, -1 - cut, -1))
    if isclose(low, high, rel_tol=1e-9, abs_tol=1e-300):
        low, high = lowest, highest
    if low == high:
        return low - 0.5, high + 0.5, "neither"
    below, above = low > lowest, high < highest
    return low, high, "both" if below and above else "min" if below else "max" if above else "neither"


def round_length_nm(field_nm: float, share: float = 0.3) -> float:
    """The longest of 1, 2, 5 x 10ⁿ nm that is no more than ``share`` of a field of view [nm]."""
    longest = field_nm * share
    decade = 10.0 ** floor(log10(longest))
    # The tolerance keeps 0.3 x 10 nm = 2.9999999999999996 from counting as less than 3.
    return max(step * decade for step in (1, 2, 5) if step * decade <= longest * (1 + 1e-9))


def length_label(length_nm: float) -> str:
    """A length as a microscopist says it: Å below a nanometre, µm from a thousand."""
    if length_nm < 1:
        return f"{length_nm * 10:g} Å"
    return f"{length_nm:g} nm" if length_nm < 1000 else f"{length_nm / 1000:g} µm"


def scale_bar(axes: Axes, field_x_nm: float) -> str:
    """Add a bar of round length, on a plate of its own so that it is legible over any image; gives its length.

    An image too slim to carry one is left without: its axes are in nm as well, and the answer is empty.
    """
    box = axes.get_window_extent()
    if any(
        side / CSS_PIXELS_PER_INCH < room for side, room in zip((box.width, box.height), _ROOM_FOR_BAR_IN, strict=True)
    ):
        return ""
    length_nm = round_length_nm(field_x_nm)
    bar = AnchoredSizeBar(
        axes.transData,
        length_nm,
        length_label(length_nm),
        "lower right",
        pad=0.3,
        borderpad=0.4,
        sep=3,
        color=INK,
        label_top=True,
        fill_bar=True,
        size_vertical=0,
        frameon=True,
    )
    bar.size_bar.get_children()[0].set_linewidth(2.5)
    bar.txt_label.get_children()[0].set_fontsize(TEXT_PT)
    bar.patch.set(facecolor="white", alpha=0.85, edgecolor="none")
    axes.add_artist(bar)
    return length_label(length_nm)


def _dress(axes: Axes, title: str) -> None:
    axes.set_title(title, fontsize=TEXT_PT + 0.5, color=INK, loc="left", fontweight="bold", parse_math=False)
    axes.tick_params(labelsize=TEXT_PT - 1, colors=INK, width=0.6, length=3)
    for spine in axes.spines.values():
        spine.set(linewidth=0.6, color=INK)


def _wrapped(title: str, left_in: float) -> tuple[str, int]:
    # A bold character of this size is about 0.078 in wide, of capitals more.
    text = fill(title, int((PANEL_WIDTH_IN - left_in) / 0.082))
    return text, text.count("\n") + 1


def _fraction(
    figure: Figure, left: float, bottom: float, width: float, height: float
) -> tuple[float, float, float, float]:
    across, up = figure.get_size_inches()
    return left / across, bottom / up, width / across, height / up
