"""Frames to lattices: what the kernels need of a data set, as arrays, and what they give."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from stem4d.analyse.strain.kernels import fit_frames
from stem4d.analyse.strain.template import Template, disk_template

Array = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]

SOFT = 0.35
"""Blur of the template that catches disks from afar, as a part of their radius."""

NARROWEST_PX = 0.55
"""Least blur of the sharp template. A sharper one holds on to pixels where patterns of a finite window ring at the
outline: on the reference simulations shear came out 15 % too small at 0.3 px, 8 % at this."""


@dataclass(frozen=True, eq=False)
class Disks:
    """A lattice of disks to be found in each frame."""

    vectors_px: Array
    """(2, 2): the lattice's vectors g1 and g2 as columns, rows (y, x)."""
    index: Array
    """(m, 2) multiples of them, the undeflected disk among them."""
    coarse: Template
    fine: Template
    bad_pixels: Mask
    counts_per_electron: float
    origin_sigma_px: float | None
    """Error of the origins that are given with the frames; None where they are only a start."""

    def as_arrays(self) -> dict[str, npt.NDArray[Any]]:
        """The same as arrays by names."""
        return {
            "vectors_px": self.vectors_px,
            "index": self.index,
            "coarse_filters": self.coarse.filters,
            "coarse_noise": self.coarse.noise,
            "fine_filters": self.fine.filters,
            "fine_noise": self.fine.noise,
            "bad_pixels": self.bad_pixels,
            "counts_per_electron": np.array(self.counts_per_electron),
            "origin_sigma_px": np.array(np.nan if self.origin_sigma_px is None else self.origin_sigma_px),
        }


def disks_from_arrays(arrays: Mapping[str, npt.NDArray[Any]]) -> Disks:
    """The reverse of ``Disks.as_arrays``."""
    sigma = float(arrays["origin_sigma_px"])
    return Disks(
        arrays["vectors_px"],
        arrays["index"],
        Template(arrays["coarse_filters"], arrays["coarse_noise"]),
        Template(arrays["fine_filters"], arrays["fine_noise"]),
        arrays["bad_pixels"],
        float(arrays["counts_per_electron"]),
        None if np.isnan(sigma) else sigma,
    )


def templates(
    radius_px: float, edge_width_px: float, vectors_px: Array, background: float, electrons_per_px: float
) -> tuple[Template, Template]:
    """The soft and the sharp template of the disks of a lattice, g1 and g2 as columns; see ``disk_template``."""
    # Far enough out to see the background, not as far as the next disk.
    usual = 2.0 + 3 * max(edge_width_px, NARROWEST_PX)
    margin = (float(np.hypot(*vectors_px).min()) - 2 * radius_px) / 2
    steps = np.stack(np.meshgrid(*(np.arange(-3, 4),) * 2, indexing="ij"), axis=-1).reshape(-1, 2)
    around = steps[steps.any(axis=1)] @ vectors_px.T
    near = None if margin > 1.0 else around[np.hypot(*around.T) < 2 * radius_px + usual + 2]
    margin = usual if near is not None else min(margin, usual)
    fine = disk_template(
        radius_px, edge_width_px, margin, background, electrons_per_px, NARROWEST_PX, neighbours_px=near
    )
    if near is not None:
        # A soft outline would be its neighbours': what can be caught is what the sharp one catches.
        return fine, fine
    # So soft an outline cannot be told from a slope: none is allowed.
    return disk_template(radius_px, max(edge_width_px, SOFT * radius_px), margin, background, 0.0), fine


@dataclass(frozen=True, eq=False)
class Fits:
    """Fits of n frames; NaN where a frame has none."""

    lattice_px: Array
    """(n, 2, 3): by axis (y, x) the origin, g1 and g2 [px]."""
    covariance: Array
    """(n, 2, 6): by axis the upper triangle of the covariance of (origin, g1, g2), from counting [px²]."""
    disks: npt.NDArray[np.int32]
    """(n,) disks that were used."""
    chi_square: Array
    """(n,) of their residuals, in counting errors."""
    freedom: npt.NDArray[np.int32]
    """(n,) degrees of freedom of it."""
    places: Array
    """(n, m, 5): each disk's place y, x [px], variances of them [px²], height [counts]; NaN where it was not seen."""


def fit(frames: npt.NDArray[Any], origins_px: Array, wanted: Disks) -> Fits:
    """Disks of frames and the lattice through them.

    Parameters
    ----------
    frames : ndarray, shape (n, det_y, det_x)
        Counts.
    origins_px : ndarray, shape (n, 2)
        Where the undeflected disk is expected (y, x), within about a radius [px].
    wanted : Disks
        What to look for.
    """
    number = len(frames)
    lattice, covariance = np.full((number, 2, 3), np.nan), np.full((number, 2, 6), np.nan)
    figures = np.zeros((number, 3))
    places = np.full((number, len(wanted.index), 5), np.nan)
    running = np.zeros((frames.shape[1] + 1, frames.shape[2] + 1), np.int64)
    running[1:, 1:] = wanted.bad_pixels.cumsum(axis=0).cumsum(axis=1)
    # Two kernels are compiled, not one for each type; counts up to 2**24 are exact in either.
    counts = frames if frames.dtype == np.uint16 else frames.astype(np.float32)
    fit_frames(
        np.ascontiguousarray(counts),
        np.ascontiguousarray(origins_px, dtype=np.float64),
        np.ascontiguousarray(wanted.vectors_px),
        np.ascontiguousarray(wanted.index, dtype=np.float64),
        wanted.coarse.filters,
        wanted.coarse.noise,
        wanted.fine.filters,
        wanted.fine.noise,
        np.ascontiguousarray(wanted.bad_pixels),
        running,
        wanted.counts_per_electron,
        0.0 if wanted.origin_sigma_px is None else wanted.origin_sigma_px**-2,
        lattice,
        covariance,
        figures,
        places,
    )
    covariance[np.isnan(lattice).any(axis=(1, 2))] = np.nan
    return Fits(
        lattice, covariance, figures[:, 0].astype(np.int32), figures[:, 1], figures[:, 2].astype(np.int32), places
    )
