"""What every analysis is given and gives: geometry, frames by rows, arrays of a part, and an outcome with pictures."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

import numpy as np
import numpy.typing as npt

from stem4d.model import Strict

Array = npt.NDArray[Any]
Parts = Mapping[str, Array]
"""Named arrays; of a part of the rows each has those rows as its first axis."""
Verdict = Literal["good", "doubtful", "not_possible"]
Kind = Literal["intensity", "signed", "angle", "share"]
"""How a picture is coloured: from dark to light, about zero, round a circle, from 0 to 1."""


@dataclass(frozen=True)
class Given:
    """What is known of a data set before it is analysed; signs and axes as in docs/conventions.md."""

    beam_energy_kev: float
    convergence_semi_angle_mrad: float
    mrad_per_pixel: float
    scan_step_nm: tuple[float, float]
    """(y, x)."""
    origin_px: Array
    """Centre of the undeflected pattern in pixel-centre indices: (2,) or, with descan, (2, scan_y, scan_x)."""
    bad_pixels: npt.NDArray[np.bool_]
    """(det_y, det_x), True where excluded."""
    scan_rotation_deg: float | None = None
    """None where nobody measured it."""
    mirrored: bool | None = False
    """None where nobody measured it: taken for not mirrored, with a doubt where that matters."""
    defocus_nm: float | None = None
    """Measured where ``uncertainty`` has it, else nominal: where a search begins."""
    thickness_nm: float | None = None
    ellipticity: float = 0.0
    ellipse_angle_deg: float = 0.0
    electrons_per_pattern: float | None = None
    """Incident electrons while the detector counts."""
    counts_per_electron: float = 1.0
    full_scale: int | None = None
    uncertainty: Mapping[str, float] = field(default_factory=dict)
    """Standard uncertainties of the figures above, by their names."""

    def origin_at(self, scan_shape: tuple[int, int]) -> Array:
        """The origin of every pattern, (2, scan_y, scan_x)."""
        origin = self.origin_px.reshape(2, 1, 1) if self.origin_px.ndim == 1 else self.origin_px
        return np.broadcast_to(origin, (2, *scan_shape))


class Rows(Protocol):
    """Frames of a scan that may be larger than memory, read by rows."""

    @property
    def scan_shape(self) -> tuple[int, int]:
        """(scan_y, scan_x)."""
        ...

    @property
    def detector_shape(self) -> tuple[int, int]:
        """(det_y, det_x)."""
        ...

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of a pixel."""
        ...

    @property
    def recorded(self) -> npt.NDArray[np.bool_]:
        """Which positions hold a frame, (scan_y, scan_x)."""
        ...

    def read(self, first: int, stop: int) -> Iterator[tuple[npt.NDArray[np.int64], Array]]:
        """Recorded frames of rows first to stop - 1: positions (flat, y * scan_x + x) and (n, det_y, det_x)."""
        ...


@dataclass(frozen=True)
class Picture:
    """One map of an outcome: a figure of the report and an NXdata group of the results file."""

    name: str
    """A word for the file, without its unit: ``exx``."""
    title: str
    values: Array
    """(y, x); NaN where it is not known."""
    unit: str
    kind: Kind
    pixel_nm: tuple[float, float]
    """(y, x)."""
    uncertainty: Array | None = None
    """One standard deviation of each value, of the same shape, or None where it has no meaning."""


@dataclass(frozen=True)
class Outcome:
    """What an analysis made of a data set."""

    verdict: Verdict
    reason: str
    """What was found with its uncertainty; what makes it doubtful; or what is missing and what to do."""
    figures: Mapping[str, float | int | str | bool | None]
    """By names with units; uncertainties as ``NAME_uncertainty`` before the unit (``defocus_uncertainty_nm``)."""
    pictures: tuple[Picture, ...] = ()


@dataclass(frozen=True)
class Method:
    """An analysis in three steps, so that rows may be looked at anywhere and by anyone.

    ``prepare`` sees what it needs of the data once (a template, a lattice, a library); ``part`` runs for ranges of
    rows, each for itself, in any process; ``finish`` gets the parts joined along their first axis. Each of them may
    raise ``NotPossible``, and ``BadInput`` for a mistake of the user's.
    """

    name: str
    options: type[Strict]
    """With defaults for all that has one."""
    prepare: Callable[[Given, Any, Rows], Parts]
    part: Callable[[Given, Any, Rows, Parts, int, int], Parts]
    finish: Callable[[Given, Any, Parts, Parts], Outcome]


class NotPossible(Exception):
    """The data cannot carry the analysis; the words say why and what would."""
