"""What the beam left on the specimen: more counts at high angles from pass to pass, and a layer that ends at the frame.

One pass alone cannot tell contamination from the specimen: the verdict is then "not measurable".
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import pi, sqrt

import numpy as np
import numpy.typing as npt

from stem4d import optics
from stem4d.maps import RunMaps
from stem4d.quality.between import Between
from stem4d.quality.fading import Fading
from stem4d.quality.grade import grade, result
from stem4d.quality.regions import Subject
from stem4d.verdict import QualityResult, Verdict

Array = npt.NDArray[np.float64]

MOST_GROWN = 0.1
"""Rise of the share of high-angle counts from the first pass to the last; as what damage may take (habit)."""
MOST_RAD = 0.5
"""Phase by which the middle of the field may gain on its border: some 8 nm of carbon at 200 kV (habit)."""
LINES_TOGETHER = 4
"""Scan lines whose errors go together: a feature's width, as scan steps are chosen."""
WHOLE_LINE = 0.9
"""Part of a line's positions that must have counts."""
FEWEST_BLOCKS = 3
"""Blocks of lines to take an error from."""


@dataclass(frozen=True)
class Layer:
    """By what phase the middle of the field and its border went apart between two passes."""

    phase_rad: float
    uncertainty_rad: float


def check_contamination(between: Between, subject: Subject) -> tuple[QualityResult, ...]:
    """Judge contamination between the passes over one area.

    Parameters
    ----------
    between : Between
        The passes, compared by ``compare``.
    subject : Subject
        What is wanted and known.

    Returns
    -------
    tuple of QualityResult
        ``contamination.growth`` of high-angle counts and ``contamination.frame``, the layer by its gradient. Of
        what cannot be compared the first alone.
    """
    if between.last is None:
        text = f"Contamination is not known: {between.where}."
        return (result("contamination.growth", None, Verdict.NOT_MEASURABLE, text, limit=MOST_GROWN),)
    return _growth(between.fading, between.where), _frame(between.passes, subject)


def _growth(fading: Fading | None, where: str) -> QualityResult:
    name = "contamination.growth"
    if fading is None:
        text = f"Contamination is not known from high angles: {where}."
        return result(name, None, Verdict.NOT_MEASURABLE, text, limit=MOST_GROWN)
    grown, error = -fading.lost, fading.lost_uncertainty
    verdict, limit = grade(grown, error, soft=MOST_GROWN)
    text = (
        f"Counts {where} rose by {grown:+.1%} ± {error:.1%} between the first pass and the last, as a share of all "
        f"counts; damage takes from them, and the two are told apart only where one is much larger."
    )
    if verdict is Verdict.WARN:
        text += " The specimen is being contaminated: clean it or the holder, or beam-shower the area."
    return result(name, None, verdict, text, value=grown, limit=limit, uncertainty=error)


def _frame(passes: Sequence[RunMaps], subject: Subject) -> QualityResult:
    name = "contamination.frame"
    layer, reason = layer_between(passes[0], passes[-1], subject)
    if layer is None:
        text = f"A layer that ends at the scan's border is not known: {reason}."
        return result(name, None, Verdict.NOT_MEASURABLE, text, limit=MOST_RAD, unit="rad")
    verdict, limit = grade(layer.phase_rad, layer.uncertainty_rad, soft=MOST_RAD)
    text = (
        f"Middle and border of the field went apart by {layer.phase_rad:.2f} ± {layer.uncertainty_rad:.2f} rad between "
        f"the first pass and the last, by the centres of mass. A descan that changed between them does the same."
    )
    if verdict is Verdict.WARN:
        text += " Look for a frame around the scanned area; clean the specimen or the holder."
    error = layer.uncertainty_rad
    return result(name, None, verdict, text, value=layer.phase_rad, limit=limit, unit="rad", uncertainty=error)


def deflection_change_mrad(first: RunMaps, last: RunMaps, mrad_per_pixel: float) -> Array:
    """Centre of mass of the last pass less that of the first, (2, scan_y, scan_x) as (y, x) [mrad]."""
    pairs = ((first.com_y_px, last.com_y_px), (first.com_x_px, last.com_x_px))
    return np.stack([b.astype(np.float64) - a for a, b in pairs]) * mrad_per_pixel


def layer_between(first: RunMaps, last: RunMaps, subject: Subject) -> tuple[Layer | None, str]:
    """Phase by which middle and border of the field went apart, or why it is not known.

    Notes
    -----
    A phase φ deflects by λ/2π of its gradient, so the change of the deflection along a line, summed from its middle to
    its ends, is 2π/λ ∫ θ dx = φ(end) - φ(middle). Lines are replicates of each other for its error. Rows alone count:
    along the slow axis a drift of the beam or of descan is in it. The detector may be turned against the scan, so that
    both parts of the centre of mass count, and what is found is the size of the phase, not its sign.
    """
    known = subject.known
    if known.scan_step_nm is None or known.beam_energy_kev is None or known.mrad_per_pixel is None:
        return None, "scan step, beam energy or angle per pixel is not known"
    change = deflection_change_mrad(first, last, known.mrad_per_pixel) * 1e-3
    columns = change.shape[2]
    whole = np.isfinite(change).all(axis=0).mean(axis=1) > WHOLE_LINE
    blocks = int(whole.sum()) // LINES_TOGETHER
    if blocks < FEWEST_BLOCKS or columns < 4:
        return None, f"it takes {FEWEST_BLOCKS * LINES_TOGETHER} whole lines with counts"
    lines = change[:, whole][:, : blocks * LINES_TOGETHER]
    # A frame lost here and there is a place without deflection, once the mean deflection is off.
    lines = np.nan_to_num(lines - np.nanmean(lines, axis=2, keepdims=True))
    step_a, wavelength_a = 10 * known.scan_step_nm, optics.wavelength_a(known.beam_energy_kev)
    side = -np.sign(np.arange(columns) - (columns - 1) / 2)
    # From the middle to the outermost positions: their steps count half.
    side[[0, -1]] /= 2
    across = lines @ side
    gained = (2 * pi / wavelength_a * step_a * across / 2).reshape(2, blocks, LINES_TOGETHER).mean(axis=2)
    both = gained.mean(axis=1)
    size = float(np.hypot(*both))
    along = both / size if size > 0 else np.full(2, sqrt(0.5))
    error = float(np.std(along @ gained, ddof=1)) / sqrt(blocks)
    # Noise alone has a size too: its part is taken off, as of squares that add.
    noise = float(gained.var(axis=1, ddof=1).sum()) / blocks
    return Layer(sqrt(max(size**2 - noise, 0.0)), error), ""
