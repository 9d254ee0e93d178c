"""Specifications, frames and files that the storage tests share."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from storage.spec import FileReceipt, FileSpec
from storage.write import FrameWriter

FACTS: Mapping[str, Any] = {
    "beam_energy_kev": 200.0,
    "convergence_semi_angle_mrad": 20.0,
    "defocus_nm": 30.0,
    "probe_current_pa": 58.0,
    "camera_length_mm": 188.6,
    "dwell_time_us": 33.3,
    "run": "r-0001",
}


def spec_at(path: Path, scan: tuple[int, int] = (3, 5), detector: tuple[int, int] = (6, 7), **others: Any) -> FileSpec:
    """A small specification without a disk reserve."""
    known = {
        "dtype": "uint16",
        "scan_step_nm": 0.5,
        "mrad_per_pixel": 1.25,
        "full_scale": 4095,
        "metadata": FACTS,
        "reserve_bytes": 0,
    }
    return FileSpec(path=path, scan_shape=scan, detector_shape=detector, **{**known, **others})


def counts(spec: FileSpec, seed: int = 0) -> npt.NDArray[np.generic]:
    """Poisson frames (positions, det_y, det_x), no two alike."""
    frames = np.random.default_rng(seed).poisson(3, (spec.positions, *spec.detector_shape)).astype(spec.dtype)
    frames[:, 0, 0] = np.arange(spec.positions) % 199
    return frames


def written(spec: FileSpec, change: Callable[[FrameWriter], None] | None = None) -> FileReceipt:
    """A finished file of ``counts(spec)``."""
    with FrameWriter(spec) as writer:
        writer.write(0, counts(spec))
        if change:
            change(writer)
        return writer.finish({})
