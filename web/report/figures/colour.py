"""Colours of a direction: hue for where it points, lightness for how far, even to the eye."""

import numpy as np
from numpy.typing import NDArray

_LIGHTNESS, _CHROMA = 0.78, 0.125
"""The lightest ring of OKLCH hues that all lie inside sRGB (found by scanning 360 hues)."""
# OKLab to linear sRGB (B. Ottosson, 2020).
_TO_LMS = np.array(
    [
        [1.0, 0.3963377774, 0.2158037573],
        [1.0, -0.1055613458, -0.0638541728],
        [1.0, -0.0894841775, -1.2914855480],
    ]
)
_TO_RGB = np.array(
    [
        [4.0767416621, -3.3077115913, 0.2309699292],
        [-1.2684380046, 2.6097574011, -0.3413193965],
        [-0.0041960863, -0.7034186147, 1.7076147010],
    ]
)


def direction_colours(y: NDArray[np.floating], x: NDArray[np.floating], longest: float) -> NDArray[np.float64]:
    """Colours of vectors (y down, x right), black at zero and full at ``longest`` and beyond.

    Parameters
    ----------
    y, x : array, shape (rows, columns)
        Components, in one unit.
    longest : float
        Length shown at full lightness, same unit.

    Returns
    -------
    array, shape (rows, columns, 3)
        sRGB in 0 to 1; NaN components stay NaN.
    """
    length = np.clip(np.hypot(y, x) / longest, 0, 1)
    # Screen angle with up positive, as the eye reads a wheel.
    hue = np.arctan2(-y, x)
    lab = np.stack([_LIGHTNESS * length, _CHROMA * length * np.cos(hue), _CHROMA * length * np.sin(hue)], axis=-1)
    linear = np.clip((lab @ _TO_LMS.T) ** 3 @ _TO_RGB.T, 0, 1)
    encoded: NDArray[np.float64] = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    return encoded


def colour_wheel(pixels: int = 129) -> NDArray[np.float64]:
    """The legend of ``direction_colours``: a disk of unit radius, transparent outside, shape (pixels, pixels, 4)."""
    y, x = np.mgrid[-1 : 1 : pixels * 1j, -1 : 1 : pixels * 1j]
    inside = np.hypot(y, x) <= 1
    return np.concatenate([direction_colours(y, x, 1.0), inside[..., None].astype(np.float64)], axis=-1)
