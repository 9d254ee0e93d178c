"""What a map of orientations comes to: pictures, figures and a verdict."""

from math import isfinite

import numpy as np
import numpy.typing as npt

from stem4d.analyse.method import Given, Kind, NotPossible, Outcome, Picture
from stem4d.analyse.orientation.directions import bunge_deg, misorientation_deg, onto_beam, reduced

Array = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]

LEAST_INDEXED = 0.5
"""Part of the positions that must have an orientation for a map to be one."""
MOST_MISFIT = 10.0
"""χ² per degree of freedom of the intensities, median. On simulated plates taken for Gaussians it is 10 to 300, and one
orientation in six that had a margin of 0.02 was a wrong one; where the shape was right it is about 1."""
MOST_INFLATED = 100.0
"""χ² per degree of freedom up to which margins have to grow with its root."""
MOST_OFF = 0.3
"""Of a disk's radius: rms distance of disks from their places along the radius beyond which the lattice is another one.
Right ones stay below 0.25 of 2 px in 99 of 100 patterns, and half of those of wrong ones lie above 0.5."""


def outcome(
    given: Given,
    rotation: Array,
    figures: Array,
    turns: Array,
    radius_px: float,
    least_score: float,
    least_margin: float,
) -> Outcome:
    """Orientations (scan_y, scan_x, 3, 3) and the figures of `search.orient` as an outcome.

    Raises
    ------
    NotPossible
        Where no pattern has spots.
    """
    score, another, half = figures[..., 0], figures[..., 1], figures[..., 2]
    recorded = np.isfinite(figures[..., 8])
    seen = np.isfinite(score)
    if not seen.any():
        raise NotPossible(
            "no pattern has spots that stand out of their background beside the direct beam: there is no crystal here, "
            "or too few electrons"
        )
    with np.errstate(invalid="ignore", divide="ignore"):
        margin = np.where(seen, 1 - another / score, np.nan)
        half_margin = np.where(np.isfinite(half), 1 - half / score, np.inf)
    fitting = seen & (figures[..., 9] <= MOST_OFF * radius_px)
    like = fitting & (score >= least_score)
    # What the model of the intensities gets wrong, it gets wrong in the margins too.
    misfit = np.sqrt(np.clip(np.nan_to_num(figures[..., 6], nan=1.0), 1.0, MOST_INFLATED))
    clear = like & (margin >= least_margin * misfit)
    open_turn = clear & (half_margin < least_margin * misfit)
    indexed = clear & ~open_turn
    shape = score.shape
    flat = rotation.reshape(-1, 3, 3)
    known = seen.reshape(-1)
    equal = np.full_like(flat, np.nan)
    equal[known] = reduced(flat[known], turns)
    turned: Array = equal.reshape(rotation.shape)
    sigma: Array = np.degrees(figures[..., 3:6]) * np.sqrt(np.maximum(figures[..., 6:7], 1.0)) ** np.array([1, 1, 0])
    best = np.unravel_index(np.nanargmax(np.where(indexed, score, np.nan) if indexed.any() else score), shape)
    away = np.full(shape, np.nan)
    away[seen] = misorientation_deg(turned[seen], turned[best], turns)
    told = _told(indexed, seen, recorded, score, margin, sigma)
    doubts = _doubts(indexed, like, seen & ~fitting, recorded, open_turn, given, least_score)
    square = _median(figures[..., 6][like])
    if square is not None and square > MOST_MISFIT:
        doubts.append(
            f"spot intensities depart from kinematic ones by {square:.3g} times their variance: tilts are less "
            "certain, and a different orientation may fit as well as the one that was found; try another "
            "excitation_per_a or shape"
        )
    count = max(int(recorded.sum()), 1)
    values: dict[str, float | int | str | bool | None] = {
        "positions": int(recorded.sum()),
        "indexed_share": float(indexed.sum()) / count,
        "like_the_crystal_share": float(like.sum()) / count,
        "half_turn_open_share": float(open_turn.sum()) / count,
        "median_score": _median(score[seen]),
        "median_margin": _median(margin[seen]),
        "median_tilt_uncertainty_deg": _median(np.hypot(sigma[..., 0], sigma[..., 1])[indexed] / np.sqrt(2)),
        "median_in_plane_uncertainty_deg": _median(sigma[..., 2][indexed]),
        "median_chi_square_per_freedom": _median(figures[..., 6][indexed]),
        "median_spots": _median(figures[..., 7][indexed]),
        "median_disk_offset_px": _median(figures[..., 9][seen]),
    }
    pictures = _pictures(given, turned, score, np.minimum(margin, half_margin), indexed, away, sigma)
    return Outcome("doubtful" if doubts else "good", "; ".join([told, *doubts]), values, pictures)


def _pictures(
    given: Given, turned: Array, score: Array, margin: Array, indexed: Mask, away: Array, sigma: Array
) -> tuple[Picture, ...]:
    step = given.scan_step_nm

    def made(name: str, title: str, values: Array, unit: str, kind: Kind, error: Array | None = None) -> Picture:
        shown = np.where(indexed, values, np.nan)
        sure = None if error is None else np.where(indexed, error, np.nan)
        return Picture(name, title, shown, unit, kind, step, sure)

    beam = turned[..., 2, :]
    known = np.isfinite(beam).all(-1)
    angle = np.full(score.shape, np.nan)
    # R = Rz(angle) times the shortest rotation onto the beam; that one's inverse takes it off.
    whole = turned[known] @ np.swapaxes(onto_beam(beam[known]), -1, -2)
    angle[known] = np.degrees(np.arctan2(whole[:, 1, 0], whole[:, 0, 0]))
    euler = np.full((*score.shape, 3), np.nan)
    euler[known] = bunge_deg(turned[known])
    tilt = np.hypot(sigma[..., 0], sigma[..., 1]) / np.sqrt(2)
    total = np.sqrt(np.square(sigma).sum(-1))
    pictures = [
        Picture("score", "Correlation with the best orientation", score, "", "share", step),
        Picture("margin", "Margin over the best different orientation", np.maximum(margin, 0.0), "", "intensity", step),
        made("misorientation", "Misorientation to the pattern of the best score", away, "deg", "intensity", total),
        made("in_plane", "In-plane angle", angle, "deg", "angle", sigma[..., 2]),
        made("tilt_uncertainty", "Uncertainty of the zone axis", tilt, "deg", "intensity"),
    ]
    for axis, name in enumerate("xyz"):
        # A direction moves by the tilt's error across itself.
        error = np.radians(tilt) * np.sqrt(np.maximum(1 - beam[..., axis] ** 2, 0.0))
        pictures.append(
            made(f"beam_{name}", f"Beam direction in the crystal along {name}", beam[..., axis], "", "signed", error)
        )
    for number, name in enumerate(("phi1", "Phi", "phi2")):
        title = f"Euler angle {name} (Bunge)"
        pictures.append(made(f"euler_{number + 1}", title, euler[..., number], "deg", "angle"))
    return tuple(pictures)


def _told(indexed: Mask, seen: Mask, recorded: Mask, score: Array, margin: Array, sigma: Array) -> str:
    tilt = _median(np.hypot(sigma[..., 0], sigma[..., 1])[indexed] / np.sqrt(2))
    plane = _median(sigma[..., 2][indexed])
    errors = "" if tilt is None or plane is None else f", tilt known to {tilt:.2g}, in-plane angle to {plane:.2g} deg"
    median, over = _median(score[seen]) or 0.0, _median(margin[seen]) or 0.0
    return (
        f"{int(indexed.sum())} of {int(recorded.sum())} patterns have an orientation: median score {median:.2f}, "
        f"margin {over:.2f}{errors}"
    )


def _doubts(
    indexed: Mask, like: Mask, off: Mask, recorded: Mask, open_turn: Mask, given: Given, least_score: float
) -> list[str]:
    doubts, count = [], max(int(recorded.sum()), 1)
    if like.sum() < LEAST_INDEXED * count:
        doubts.append(
            f"{1 - like.sum() / count:.0%} of the patterns are not this crystal's: they correlate with no orientation "
            f"by {least_score:.2f} or more, or ({off.sum() / count:.0%}) their disks lie off its reflections. The "
            "crystal is another one, several overlap, the angle per pixel is wrong, or there are too few electrons"
        )
    elif indexed.sum() < LEAST_INDEXED * count:
        doubts.append(
            f"{1 - indexed.sum() / count:.0%} of the patterns fit different orientations about as well, "
            f"{open_turn.sum() / count:.0%} of them one turned by 180 deg about the zone axis, which only spots of "
            "further layers tell apart: they show too few spots"
        )
    if given.scan_rotation_deg is None:
        doubts.append("the scan's rotation is not known: in-plane angles are those of the detector")
    if given.mirrored is None:
        doubts.append("whether the detector is mirrored is not known: the handedness of orientations may be the other")
    return doubts


def _median(values: Array) -> float | None:
    finite = values[np.isfinite(values)]
    middle = float(np.median(finite)) if finite.size else float("nan")
    return middle if isfinite(middle) else None
