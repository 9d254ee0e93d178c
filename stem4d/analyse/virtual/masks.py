"""Virtual detectors of an analysis: rings, disks on a lattice, any pixels; and their weights about an origin."""

from typing import Annotated, Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field, model_validator

from stem4d.analyse.geometry import angles_per_px
from stem4d.analyse.method import Given
from stem4d.errors import BadInput
from stem4d.model import Name, NonNegative, Positive, Strict

Array = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]
Vector = tuple[float, float]


class Ring(Strict):
    """Angles from ``inner_mrad`` up to ``outer_mrad``."""

    kind: Literal["ring"] = "ring"
    name: Name
    inner_mrad: NonNegative
    outer_mrad: Positive

    @model_validator(mode="after")
    def _outer_beyond_inner(self) -> "Ring":
        if self.outer_mrad <= self.inner_mrad:
            raise ValueError(f"outer_mrad must be larger than inner_mrad ({self.inner_mrad:g} mrad)")
        return self


class LatticeDisks(Strict):
    """Disks at m g1 + n g2, |m|, |n| up to ``orders``; vectors (y, x) in the scan's frame, found where absent."""

    kind: Literal["lattice"]
    name: Name
    radius_mrad: Positive
    g1_mrad: Vector | None = None
    g2_mrad: Vector | None = None
    orders: Annotated[int, Field(ge=1, le=20)] = 2
    direct_beam: bool = False
    """Whether the undeflected disk is taken too."""

    @model_validator(mode="after")
    def _both_or_none(self) -> "LatticeDisks":
        if (self.g1_mrad is None) != (self.g2_mrad is None):
            raise ValueError("g1_mrad and g2_mrad must both be given, or neither")
        return self


class Pixels(Strict):
    """Any pixels: a text of 0 and 1 for each row of the detector, for the mean origin."""

    kind: Literal["pixels"]
    name: Name
    rows: Annotated[tuple[Annotated[str, Field(pattern="^[01]+$")], ...], Field(min_length=1)]


Detector = Annotated[Ring | LatticeDisks | Pixels, Field(discriminator="kind")]


class VirtualOptions(Strict):
    """Which images are made."""

    detectors: Annotated[tuple[Detector, ...], Field(min_length=1, max_length=16)] | None = None
    """Where absent those of `usual_rings` that lie on the detector."""

    @model_validator(mode="after")
    def _names_differ(self) -> "VirtualOptions":
        if len({one.name for one in self.detectors or ()}) < len(self.detectors or ()):
            raise ValueError("detectors must have different names")
        return self


def usual_rings(convergence_semi_angle_mrad: float) -> tuple[Ring, ...]:
    """BF, ABF, ADF and HAADF by the parts of the semi-angle that are usual."""
    a = convergence_semi_angle_mrad
    return (
        Ring(name="bf", inner_mrad=0.0, outer_mrad=a),
        Ring(name="abf", inner_mrad=a / 2, outer_mrad=a),
        Ring(name="adf", inner_mrad=1.2 * a, outer_mrad=2.5 * a),
        Ring(name="haadf", inner_mrad=2.5 * a, outer_mrad=5 * a),
    )


def mask_of(
    detector: Ring | LatticeDisks | Pixels,
    given: Given,
    shape: tuple[int, int],
    origin_px: Vector,
    lattice_mrad: Array | None = None,
    moved_px: tuple[int, int] = (0, 0),
) -> Mask:
    """Pixels that a detector takes about an origin.

    Parameters
    ----------
    lattice_mrad : ndarray, shape (2, 2), optional
        Rows g1, g2 (y, x) that were found, for a lattice without vectors of its own.
    moved_px : (int, int)
        How far the pattern lies off its mean place, for `Pixels`.

    Raises
    ------
    BadInput
        For pixels that do not have the detector's shape.
    """
    if isinstance(detector, Pixels):
        return _moved_pixels(detector, shape, moved_px)
    y, x = np.indices(shape) - np.reshape(origin_px, (2, 1, 1))
    angle = np.einsum("ab,byx->ayx", angles_per_px(given), np.stack([y, x]).astype(np.float64))
    if isinstance(detector, Ring):
        size = np.hypot(angle[0], angle[1])
        inside: Mask = (size >= detector.inner_mrad) & (size < detector.outer_mrad)
        return inside
    taken = np.zeros(shape, bool)
    for at in disk_angles(detector, lattice_mrad):
        taken |= np.hypot(angle[0] - at[0], angle[1] - at[1]) <= detector.radius_mrad
    return taken


def disk_angles(detector: LatticeDisks, lattice_mrad: Array | None) -> Array:
    """Middles (n, 2) of a lattice's disks (y, x) in the scan's frame [mrad].

    Raises
    ------
    BadInput
        Without two vectors in different directions.
    """
    basis = np.array([detector.g1_mrad, detector.g2_mrad]) if detector.g1_mrad is not None else lattice_mrad
    if basis is None or abs(np.linalg.det(basis)) < 1e-6 * float((basis**2).sum()):
        raise BadInput(
            field=f"{detector.name}.g1_mrad, g2_mrad",
            value=None if basis is None else basis.tolist(),
            limit="two vectors in different directions",
            unit="mrad",
        )
    most = range(-detector.orders, detector.orders + 1)
    steps = [(m, n) for m in most for n in most if (m, n) != (0, 0) or detector.direct_beam]
    middles: Array = np.array(steps, dtype=np.float64) @ basis
    return middles


def check_on_detector(
    detectors: tuple[Ring | LatticeDisks | Pixels, ...],
    given: Given,
    shape: tuple[int, int],
    origins_px: Array,
    lattice_mrad: Array | None,
) -> None:
    """Refuse what takes no good pixel, at the mean origin (2,) or at any corner that origins (2, n) reach.

    Raises
    ------
    BadInput
        With the largest angle that the detector records.
    """
    corners = np.array([(y, x) for y in (0, shape[0] - 1) for x in (0, shape[1] - 1)], np.float64)
    for origin in origins_px.T:
        reach = float(np.hypot(*(angles_per_px(given) @ (corners - origin).T)).max())
        for one in detectors:
            mask = mask_of(one, given, shape, (float(origin[0]), float(origin[1])), lattice_mrad)
            if not (mask & ~given.bad_pixels).any():
                raise BadInput(
                    field=one.name,
                    value=_told(one),
                    limit=f"at least one good pixel of the detector {shape}, which reaches {reach:.3g} mrad "
                    f"where the beam lands at ({origin[0]:.1f}, {origin[1]:.1f}) px",
                    unit="mrad" if not isinstance(one, Pixels) else "",
                    remedy="Give smaller angles, or record with a shorter camera length",
                )


def _told(one: Ring | LatticeDisks | Pixels) -> object:
    if isinstance(one, Ring):
        return (one.inner_mrad, one.outer_mrad)
    return one.radius_mrad if isinstance(one, LatticeDisks) else f"{sum(row.count('1') for row in one.rows)} pixels"


def _moved_pixels(detector: Pixels, shape: tuple[int, int], moved_px: tuple[int, int]) -> Mask:
    if len(detector.rows) != shape[0] or any(len(row) != shape[1] for row in detector.rows):
        found = (len(detector.rows), sorted({len(row) for row in detector.rows}))
        raise BadInput(field=f"{detector.name}.rows", value=found, limit=f"the detector's shape {shape}", unit="px")
    mask = np.array([[letter == "1" for letter in row] for row in detector.rows])
    padded = np.pad(mask, [(abs(by), abs(by)) for by in moved_px])
    y, x = (abs(by) - by for by in moved_px)
    moved: Mask = padded[y : y + shape[0], x : x + shape[1]]
    return moved
