"""What a file is to hold and what became of it: picklable values for the acquisition process and its parent."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from stem4d.errors import BadInput
from storage.layout import DTYPES, MAX_FRAME_BYTES, MAX_POSITIONS

Fact = float | int | str | bool | list[float] | list[int] | list[str]
MAX_LIST = 4096


@dataclass(frozen=True)
class FileSpec:
    """A 4D file before it is written. ``path`` ends in ``.h5``, or py4DSTEM and HyperSpy will not take it."""

    path: Path
    scan_shape: tuple[int, int]
    detector_shape: tuple[int, int]
    dtype: str
    scan_step_nm: float | None
    """None where nobody knows: the axes are then in pixels."""
    mrad_per_pixel: float | None
    full_scale: int | None
    metadata: Mapping[str, Fact] = field(default_factory=dict)
    """Vocabulary names, units in the name: ``beam_energy_kev``, ``run``, ``plan_sha256``."""
    virtual_detectors: tuple[str, ...] = ()
    """Those whose images ``finish`` will bring."""
    title: str = ""
    reserve_bytes: int = 2_000_000_000
    """What has to stay free on the disk."""

    @property
    def positions(self) -> int:
        """Number of scan positions."""
        return self.scan_shape[0] * self.scan_shape[1]

    @property
    def frame_bytes(self) -> int:
        """Bytes of one uncompressed frame."""
        return self.detector_shape[0] * self.detector_shape[1] * np.dtype(self.dtype).itemsize

    @property
    def needed_bytes(self) -> int:
        """Uncompressed size: what the disk needs is never more."""
        return self.positions * self.frame_bytes

    @property
    def partial(self) -> Path:
        """Name while it is being written."""
        return self.path.with_name(self.path.name + ".partial")

    @property
    def incomplete(self) -> Path:
        """Name of a file that was stopped early."""
        return self.path.with_name(self.path.stem + ".incomplete.h5")

    @property
    def corrupt_folder(self) -> Path:
        """Where the bytes of frames that could not be unpacked are kept."""
        return self.path.with_name(self.path.stem + ".corrupt")

    def check(self) -> None:
        """Raise ``BadInput`` for what cannot be written."""
        name = self.path.name
        if self.path.suffix != ".h5":
            raise BadInput(field="path", value=name, limit="the name has to end in .h5")
        if self.dtype not in DTYPES:
            raise BadInput(field="dtype", value=self.dtype, limit="one of " + ", ".join(DTYPES))
        for field_name, shape in (("scan_shape", self.scan_shape), ("detector_shape", self.detector_shape)):
            if len(shape) != 2 or min(shape) < 1:
                raise BadInput(field=field_name, value=shape, limit="two numbers of at least 1")
        if self.positions > MAX_POSITIONS:
            raise BadInput(
                field="scan_shape",
                value=self.scan_shape,
                limit=f"at most {MAX_POSITIONS:,} positions in a file",
                remedy="Split the scan into several files",
            )
        if self.frame_bytes > MAX_FRAME_BYTES:
            raise BadInput(
                field="detector_shape",
                value=self.detector_shape,
                limit=f"at most {MAX_FRAME_BYTES:,} a frame",
                unit="B",
            )
        for key, value in {**self.metadata, "title": self.title}.items():
            _check_fact(key, value)
        # Late: what it brings takes half of the time that a process which only reads files needs to start.
        from stem4d.model import NAME_PATTERN

        for detector in self.virtual_detectors:
            if not re.fullmatch(NAME_PATTERN, detector):
                raise BadInput(
                    field="virtual_detectors", value=detector, limit="letters, digits, dot, dash, underscore"
                )


@dataclass(frozen=True)
class FileReceipt:
    """What lies on the disk after a run."""

    path: Path
    sha256: str
    bytes: int
    frames_written: int
    complete: bool
    """Every position holds a frame and the run was not stopped early."""


def _check_fact(key: str, value: object) -> None:
    if not re.fullmatch(r"[a-z][a-z0-9_]{0,63}", key):
        raise BadInput(field="metadata", value=key, limit="names of lower-case letters, digits and underscores")
    items = value if isinstance(value, list) else [value]
    # bool before int: True is an int to Python, and not to us.
    kinds = {next((kind for kind in (bool, int, float, str) if isinstance(item, kind)), None) for item in items}
    if None in kinds or len(kinds) > 1 or (isinstance(value, list) and bool in kinds):
        limit = "a number, text, true or false, or a list of numbers or of texts"
    elif any(isinstance(item, str) and "\0" in item for item in items):
        limit = "text without NUL characters"
    elif any(isinstance(item, int) and not -(2**63) <= item < 2**63 for item in items):
        limit = "whole numbers of at most 64 bit"
    elif len(items) > MAX_LIST:
        limit = f"at most {MAX_LIST} items"
    else:
        return
    raise BadInput(field=f"metadata.{key}", value=value, limit=limit)
