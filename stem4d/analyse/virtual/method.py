"""Virtual images under masks that the acquisition did not have: one pass over the frames, following the origin."""

import numpy as np
import numpy.typing as npt

from stem4d.analyse.frame_pass import FollowingPass, sampled_rows
from stem4d.analyse.geometry import angles_per_px, require_sound
from stem4d.analyse.lattice_found import lattice_of
from stem4d.analyse.method import Given, Method, Outcome, Parts, Rows
from stem4d.analyse.usable import MOST_SATURATED
from stem4d.analyse.virtual.masks import (
    LatticeDisks,
    Pixels,
    Ring,
    VirtualOptions,
    check_on_detector,
    mask_of,
    usual_rings,
)
from stem4d.analyse.virtual.outcome import LEAST_COVERED, covered, images_outcome

Mask = npt.NDArray[np.bool_]
Detectors = tuple[Ring | LatticeDisks | Pixels, ...]


def prepare(given: Given, options: VirtualOptions, rows: Rows) -> Parts:
    """The lattice, where one has to be found, which detectors are taken, and how much of each is there."""
    require_sound(given, rows.scan_shape, rows.detector_shape)
    detectors = options.detectors or usual_rings(given.convergence_semi_angle_mrad)
    looking = FollowingPass(given, rows, lambda _: ())
    lattice = np.zeros((0, 2))
    if any(isinstance(one, LatticeDisks) and one.g1_mrad is None for one in detectors):
        summed = looking.look(sampled_rows(rows).tolist()).aligned
        radius = given.convergence_semi_angle_mrad / given.mrad_per_pixel
        lattice = lattice_of(summed, given.bad_pixels, looking.mean_px, radius) @ angles_per_px(given).T
    origin = given.origin_at(rows.scan_shape).reshape(2, -1)
    reached = np.stack([origin.mean(1), origin.min(1), origin.max(1)], axis=1)
    vectors = lattice if len(lattice) else None
    masks = _masks(given, detectors, rows.detector_shape, lattice, looking.mean_px, looking.mean_px)
    shares = np.array(
        [covered(one, given, mask, looking.mean_px, vectors) for one, mask in zip(detectors, masks, strict=True)]
    )
    # What nobody asked for is left out where most of it is not there; the bright field has to be.
    taken = np.flatnonzero((shares >= LEAST_COVERED) | (options.detectors is not None) | (np.arange(len(shares)) == 0))
    check_on_detector(tuple(detectors[k] for k in taken), given, rows.detector_shape, reached, vectors)
    return {"lattice_mrad": lattice, "covered": shares[taken], "taken": taken}


def part(given: Given, options: VirtualOptions, rows: Rows, prepared: Parts, first: int, stop: int) -> Parts:
    """Counts under each detector in rows first to stop - 1."""
    detectors = _taken(given, options, prepared)
    mean = tuple(float(one.mean()) for one in given.origin_at(rows.scan_shape))
    middle = (mean[0], mean[1])

    def masks(origin_px: tuple[float, float]) -> list[Mask]:
        return _masks(given, detectors, rows.detector_shape, prepared["lattice_mrad"], origin_px, middle)

    found = FollowingPass(given, rows, masks).over(first, stop)
    return {"virtual": found.virtual, "saturated": found.saturated}


def finish(given: Given, options: VirtualOptions, prepared: Parts, parts: Parts) -> Outcome:
    """Images in electrons."""
    images, detectors = parts["virtual"], _taken(given, options, prepared)
    recorded: Mask = np.asarray(np.isfinite(images).all(axis=-1))
    doubts = [
        f"{one.name}: only {share:.0%} of its angles lie on good pixels"
        for one, share in zip(detectors, prepared["covered"], strict=True)
        if share < LEAST_COVERED
    ]
    if recorded.any() and (part_of := float(parts["saturated"][recorded].mean())) > MOST_SATURATED:
        doubts.append(f"pixels stand at full scale in {part_of:.0%} of the patterns: bright parts are too dark")
    return images_outcome(
        given, {one.name: images[..., number] for number, one in enumerate(detectors)}, recorded, doubts
    )


VIRTUAL = Method("virtual", VirtualOptions, prepare, part, finish)


def _taken(given: Given, options: VirtualOptions, prepared: Parts) -> Detectors:
    detectors = options.detectors or usual_rings(given.convergence_semi_angle_mrad)
    return tuple(detectors[k] for k in prepared["taken"])


def _masks(
    given: Given,
    detectors: Detectors,
    shape: tuple[int, int],
    lattice: npt.NDArray[np.float64],
    origin_px: tuple[float, float],
    mean_px: tuple[float, float],
) -> list[Mask]:
    moved = (round(origin_px[0] - mean_px[0]), round(origin_px[1] - mean_px[1]))
    known = lattice if len(lattice) else None
    return [mask_of(one, given, shape, origin_px, known, moved) for one in detectors]
