"""Virtual images as an outcome: electrons with their counting noise, what they show beyond it, and what spoils them."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict

import numpy as np
import numpy.typing as npt

from stem4d.analyse.geometry import angles_per_px, require_sound
from stem4d.analyse.method import Given, NotPossible, Outcome, Picture
from stem4d.analyse.usable import MOST_SATURATED
from stem4d.analyse.virtual.masks import LatticeDisks, Pixels, Ring, disk_angles, mask_of
from stem4d.analyse.virtual.summary import summarise_virtual
from stem4d.calibrate.pixels import fill_bad_pixels
from stem4d.errors import BadInput, some_of
from stem4d.maps import RunMaps

Array = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]

LEAST_CONTRAST_SIGMAS = 3.0
LEAST_COVERED = 0.5
"""Part of a detector that must lie on good pixels for its image to stand for it."""
IN_A_DISK = 64
"""Points of each disk that are looked at: its part on good pixels to a few per cent."""


def virtual_outcome(
    given: Given, maps: RunMaps, names: Sequence[str] | None = None, rings: Mapping[str, Ring] | None = None
) -> Outcome:
    """Virtual images from the maps of a pass, without looking at a frame.

    Parameters
    ----------
    given : Given
        With the origin of every position where the pattern moves with the scan.
    maps : RunMaps
        With the images that the accumulator made.
    names : sequence of str, optional
        Which; all of them if absent.
    rings : mapping of Ring, optional
        The angles of each by its name: what the moving pattern does to an image is then worked out.

    Raises
    ------
    BadInput
        For an image that the accumulator did not make.
    NotPossible
        Where nothing was recorded.
    """
    wanted = tuple(maps.virtual) if names is None else tuple(names)
    missing = [name for name in wanted if name not in maps.virtual]
    if missing or not wanted:
        raise BadInput(
            field="virtual detectors",
            value=missing,
            limit=f"what was acquired has {some_of(maps.virtual) or 'none'}",
            remedy="Take other masks with a pass over the frames",
        )
    require_sound(given, maps.scan_shape, (maps.sum_pattern.shape[0], maps.sum_pattern.shape[1]))
    doubts = []
    for name in wanted:
        ring = (rings or {}).get(name)
        if ring is not None and (told := _moved(given, maps, name, ring)):
            doubts.append(told)
    if maps.recorded.any() and (part := float((maps.saturated_px[maps.recorded] > 0).mean())) > MOST_SATURATED:
        doubts.append(f"pixels stand at full scale in {part:.0%} of the patterns: bright parts are too dark")
    return images_outcome(given, {name: maps.virtual[name] for name in wanted}, maps.recorded, doubts)


def images_outcome(
    given: Given, counts: Mapping[str, npt.NDArray[np.number]], recorded: Mask, doubts: Sequence[str] = ()
) -> Outcome:
    """Pictures and figures of images (scan_y, scan_x) [counts] by their names."""
    if not recorded.any():
        raise NotPossible("no frame was recorded")
    if not any(np.nansum(image[recorded]) > 0 for image in counts.values()):
        raise NotPossible(
            f"no electron fell on {some_of(counts)} in any pattern: the beam was off, or nothing scatters that far"
        )
    figures: dict[str, float | int | str | bool | None] = {"positions": int(recorded.sum())}
    pictures, told, shows = [], [], False
    for name, image in counts.items():
        electrons = np.where(recorded, image / given.counts_per_electron, np.nan)
        summary = summarise_virtual(name, electrons, recorded, given.electrons_per_pattern)
        shows |= summary.contrast > LEAST_CONTRAST_SIGMAS * summary.contrast_uncertainty
        told.append(summary.text.replace(" counts a position", " electrons a position"))
        plain = {key: value for key, value in asdict(summary).items() if key not in ("name", "positions")}
        plain["mean_electrons"] = plain.pop("mean_counts")
        figures |= {
            f"{name}_{key}": None if isinstance(value, float) and not np.isfinite(value) else value
            for key, value in plain.items()
        }
        # The variance of a count that came out as 0 is not 0: one electron more is what it may have been.
        noise = np.sqrt(np.maximum(electrons, 1.0))
        pictures.append(
            Picture(name, f"Virtual image {name}", electrons, "electrons", "intensity", given.scan_step_nm, noise)
        )
    said = list(doubts)
    if not shows:
        said.append("no image shows more than its counting noise")
    return Outcome("doubtful" if said else "good", "; ".join([*told, *said]), figures, tuple(pictures))


def covered(
    one: Ring | LatticeDisks | Pixels,
    given: Given,
    mask: Mask,
    origin_px: tuple[float, float],
    lattice_mrad: Array | None,
) -> float:
    """Part of a ring's or of disks' angles that lies on good pixels; 1 for what is no more than its pixels."""
    if isinstance(one, Ring):
        seen = float((mask & ~given.bad_pixels).sum()) * given.mrad_per_pixel**2
        return seen / (np.pi * (one.outer_mrad**2 - one.inner_mrad**2))
    if isinstance(one, Pixels):
        return 1.0
    # Points spread evenly over a disk, in each of the disks.
    turn, out = np.arange(IN_A_DISK) * np.pi * (3 - 5**0.5), np.sqrt((np.arange(IN_A_DISK) + 0.5) / IN_A_DISK)
    within = one.radius_mrad * np.stack([out * np.sin(turn), out * np.cos(turn)], axis=1)
    angle = (disk_angles(one, lattice_mrad)[:, None] + within).reshape(-1, 2)
    pixel = np.rint(angle @ np.linalg.inv(angles_per_px(given)).T + origin_px).astype(np.int64)
    there = ((pixel >= 0) & (pixel < mask.shape)).all(axis=1)
    y, x = pixel[there].T
    return float((~given.bad_pixels[y, x]).sum() / len(pixel))


def _moved(given: Given, maps: RunMaps, name: str, ring: Ring) -> str:
    """What the movement of the pattern over a ring that stood still does to its image, where it is more than noise."""
    origin = given.origin_at(maps.scan_shape)
    apart = origin - origin.mean(axis=(1, 2), keepdims=True)
    if not maps.recorded.any() or not np.abs(apart).max() > 0:
        return ""
    middle = (float(origin[0].mean()), float(origin[1].mean()))
    detector = (maps.sum_pattern.shape[0], maps.sum_pattern.shape[1])
    mask = mask_of(ring, given, detector, middle) & ~given.bad_pixels
    filled = fill_bad_pixels(maps.mean_pattern, given.bad_pixels)
    slopes = np.stack([np.asarray(np.gradient(filled, axis=axis)) for axis in (0, 1)])
    by_px = -np.array([float(one[mask].sum()) for one in slopes]) / given.counts_per_electron
    # A centred ring gains on one side what it loses on the other; the second order is half the curvature of it.
    bend = np.array([float(np.gradient(one, axis=axis)[mask].sum()) for axis, one in enumerate(slopes)])
    change = np.einsum("a,ayx->yx", by_px, apart) + 0.5 * np.einsum(
        "a,ayx->yx", bend / given.counts_per_electron, apart**2
    )
    change = change[maps.recorded] - change[maps.recorded].mean()
    noise = np.sqrt(max(float(maps.virtual[name][maps.recorded].mean()) / given.counts_per_electron, 1.0))
    moved = float(np.sqrt(np.mean(change**2)))
    if moved <= noise:
        return ""
    return (
        f"{name}: the pattern moves by up to {2 * float(np.hypot(*apart).max()):.1f} px under a detector that stood "
        f"still, which makes {moved:.3g} electrons rms of the image, counting {noise:.3g}: take it with a pass over "
        "the frames that follows the origin"
    )
