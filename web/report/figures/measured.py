"""Draws what single kinds of calibration found: rotation, ellipse, lattice residuals, drift."""

import numpy as np
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from numpy.typing import NDArray

from web.report.figures.canvas import Drawing, drawn, legend_below, plot_axes
from web.report.figures.fits import labelled
from web.report.text import number, quantity

_DATA, _FIT, _GREY, _GREEN = "#1f5fa8", "#c2571a", "#6b7280", "#2b7a4b"


def rotation(
    angles_deg: NDArray[np.floating],
    fitted: NDArray[np.floating],
    plain: NDArray[np.floating],
    *,
    found_deg: float,
    uncertainty_deg: float | None,
    deflections_deg: float | None = None,
) -> Drawing:
    """How much curl the deflections have at each angle, and the rotation that was recorded.

    Parameters
    ----------
    angles_deg : array, shape (n,)
        Trial angles, half a turn of them.
    fitted : array, shape (n,)
        Share of the deflections that is curl, weighted as in the fit.
    plain : array, shape (n,)
        The same without weights, noise and all.
    found_deg, uncertainty_deg : float
        As recorded; half a turn is taken off where no curl could tell it.
    deflections_deg : float, optional
        By deflections alone, where the recorded rotation is that of two methods together.
    """
    title = "Curl of the deflections against the rotation"
    axes = plot_axes(title, 3.6, legend_lines=4)
    found = (found_deg + 90) % 180 - 90
    handles: list[Line2D | Patch] = [
        *axes.plot(
            angles_deg, fitted, "-", color=_FIT, linewidth=1.6, label="curl as fitted: weighted by signal to noise"
        ),
        *axes.plot(angles_deg, plain, ":", color=_GREY, linewidth=1.2, label="every frequency alike, noise included"),
    ]
    said = quantity(found, "deg", uncertainty_deg)
    if uncertainty_deg is not None:
        axes.axvspan(found - uncertainty_deg, found + uncertainty_deg, color=_DATA, alpha=0.2, linewidth=0)
    handles.append(axes.axvline(found, color=_DATA, linewidth=1.4, label=f"rotation {said}, band: standard error"))
    if deflections_deg is not None:
        alone = (deflections_deg + 90) % 180 - 90
        handles.append(
            axes.axvline(alone, color=_DATA, linewidth=1.0, linestyle="--", label=f"by deflections alone {alone:.1f}°")
        )
    axes.set_xlim(float(angles_deg[0]), float(angles_deg[-1]))
    labelled(axes, "rotation [°]", "curl, share of the deflections")
    legend_below(axes, handles, columns=1)
    least = float(angles_deg[int(np.argmin(fitted))])
    return drawn(axes, title, f"{title}. The fitted curve is lowest at {number(least, 3)}°; recorded is {said}.")


def ellipse(
    azimuth_deg: NDArray[np.floating],
    departure: NDArray[np.floating],
    uncertainty: NDArray[np.floating],
    fitted: tuple[NDArray[np.floating], NDArray[np.floating]],
    said: str,
) -> Drawing:
    """Radius of the rings by azimuth, less their mean, with the fitted ellipse.

    Parameters
    ----------
    azimuth_deg, departure, uncertainty : array, shape (n,)
        Sectors, the relative departure of their radius from a circle, its standard error.
    fitted : tuple of array, shape (m,)
        Azimuth [deg] and departure of the ellipse.
    said : str
        The ellipse in words.
    """
    title = "Radius of the rings by azimuth [%]"
    axes = plot_axes(title, 3.4, legend_lines=2)
    mean = float(np.nanmean(departure)) if np.isfinite(departure).any() else 0.0
    axes.errorbar(azimuth_deg, 100 * (departure - mean), 100 * uncertainty, fmt="o", color=_DATA, markersize=4,
                  elinewidth=1.0, capsize=2)  # fmt: skip
    axes.plot(fitted[0], 100 * fitted[1], "-", color=_FIT, linewidth=1.4)
    axes.axhline(0, color=_GREY, linewidth=0.8, linestyle=":")
    axes.set_xlim(0, 360)
    axes.set_xticks(range(0, 361, 60))
    handles = [
        Line2D([], [], color=_DATA, marker="o", linestyle="", markersize=4, label="sectors of the mean pattern"),
        Line2D([], [], color=_FIT, linewidth=1.4, label=f"fitted ellipse: {said}"),
    ]
    labelled(axes, "azimuth from the detector's x towards its y [°]", "radius off a circle [%]")
    legend_below(axes, handles, columns=1)
    return drawn(axes, title, f"{title}: {int(np.isfinite(departure).sum())} sectors. Fitted: {said}.")


def residuals(at: NDArray[np.floating], left: NDArray[np.floating]) -> Drawing:
    """What a lattice leaves of the waves that were found: (n,) their length, and found less fitted [% of it]."""
    title = "Waves of the lattice: found less fitted [%]"
    axes = plot_axes(title, 2.8)
    axes.plot(at, left, "o", color=_DATA, markersize=4)
    axes.axhline(0, color=_FIT, linewidth=1.4)
    labelled(axes, "wave of the fitted lattice [cycles per position]", "found less fitted [%]")
    rms = float(np.sqrt(np.mean(left**2))) if left.size else 0.0
    return drawn(axes, title, f"{title}: {left.size} waves, rms {number(rms, 2)} %.")


def drift(
    times_min: NDArray[np.floating],
    places_nm: NDArray[np.floating],
    errors_nm: NDArray[np.floating],
    rate_nm_per_min: tuple[float, float],
) -> Drawing:
    """Where the specimen was in each scan.

    Parameters
    ----------
    times_min : array, shape (n,)
        Start of each scan after the first.
    places_nm, errors_nm : array, shape (n, 2)
        (y, x) along the scan's axes, relative to the first scan, and standard errors.
    rate_nm_per_min : tuple of float
        (y, x) as recorded.
    """
    title = "Place of the specimen since the first scan [nm]"
    axes = plot_axes(title, 3.2, legend_lines=2)
    handles = []
    for axis, colour, marker in ((0, _GREEN, "^"), (1, _DATA, "s")):
        rate = rate_nm_per_min[axis]
        label = f"scan {'yx'[axis]}: {number(rate, 3)} nm/min"
        axes.errorbar(times_min, places_nm[:, axis], errors_nm[:, axis], fmt=marker, color=colour, markersize=4,
                      elinewidth=1.0, capsize=3)  # fmt: skip
        axes.plot(times_min, rate * times_min, "-", color=colour, linewidth=1.2)
        handles.append(Line2D([], [], color=colour, marker=marker, markersize=4, linewidth=1.2, label=label))
    labelled(axes, "time [min]", "place along the scan's axes [nm]")
    legend_below(axes, handles, columns=2, line=0)
    last = ", ".join(f"{'yx'[axis]} {number(float(places_nm[-1, axis]), 3)} nm" for axis in (0, 1))
    return drawn(axes, title, f"{title}: {len(times_min)} scans, in the last one {last}. Lines are the recorded rate.")
