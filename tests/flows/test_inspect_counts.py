"""What inspect counts in files of any make is what plain numpy counts in the same frames, to the last digit."""

import importlib
import subprocess
from pathlib import Path

import numpy as np
import pytest

from flows.inspect import Inspection, inspect_file
from stem4d.verdict import QualityResult
from tests.peer_environments import python_of

PEERS = Path(__file__).parents[1] / "storage" / "peers"


def figure(found: Inspection, metric: str) -> QualityResult:
    """The one result of a metric of the whole recording."""
    (only,) = (one for one in found.results if one.metric == metric)
    return only


def assert_counts(found: Inspection, frames: np.ndarray, full_scale: int) -> None:
    """Every count of an inspection against plain numpy on frames (scan_y, scan_x, det_y, det_x)."""
    assert (found.scan_shape, found.detector_shape) == (frames.shape[:2], frames.shape[2:])
    maps, wide = found.maps, frames.astype(np.uint64)
    summed, largest = wide.sum((0, 1)), frames.max((0, 1))
    # A pixel that inspect takes for bad is 0 in its patterns; of those there are as many as it says, or dark ones too.
    left_out = (maps.sum_pattern == 0) & (summed > 0)
    assert left_out.sum() <= found.bad_pixels
    np.testing.assert_array_equal(maps.sum_pattern, np.where(left_out, 0, summed))
    np.testing.assert_array_equal(maps.max_pattern, np.where(left_out, 0, largest))
    good = np.where(left_out, 0, wide)
    full = good >= full_scale
    np.testing.assert_array_equal(maps.total, good.sum((2, 3)))
    np.testing.assert_array_equal(maps.maximum, good.max((2, 3)))
    np.testing.assert_array_equal(maps.saturated_px, full.sum((2, 3)))
    pixels = frames.shape[2] * frames.shape[3] - found.bad_pixels
    assert figure(found, "saturation.anywhere").value == full.any((0, 1)).sum() / pixels
    assert figure(found, "saturation.per_frame").value == full.sum((2, 3)).mean()
    assert figure(found, "frames.missing").value == 0


@pytest.mark.parametrize(
    ("name", "reader", "full_scale"),
    [
        ("recorded_merlin_6bit/001_4x2_6bit.mib", "quantumdetector", 63),
        ("recorded_merlin_6bit/002_4x2_6bit_roi128.mib", "quantumdetector", 63),
        ("recorded_nanomegas_blo/test1.blo", "blockfile", 255),
    ],
)
def test_counts_of_recorded_files(recorded_data: Path, name: str, reader: str, full_scale: int) -> None:
    data = np.asarray(importlib.import_module(f"rsciio.{reader}").file_reader(str(recorded_data / name))[0]["data"])
    found = inspect_file(recorded_data / name, full_scale=full_scale)
    assert_counts(found, data.reshape(*found.scan_shape, *data.shape[-2:]), full_scale)


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize(("peer", "suffix"), [("hyperspy", ".hspy"), ("py4dstem", ".h5")])
def test_counts_of_files_that_others_wrote(tmp_path: Path, peer: str, suffix: str) -> None:
    full_scale = 4095
    y, x = np.indices((48, 40))
    disk = np.hypot(y - 23.5, x - 19.5) < 9
    frames = np.random.default_rng(4).poisson(np.where(disk, 3600.0, 2.0), (6, 5, 48, 40))
    frames = np.minimum(frames, full_scale).astype(np.uint16)
    frames[2, 3, 20:23, 19] = full_scale
    source, target = tmp_path / "frames.npy", tmp_path / f"written{suffix}"
    np.save(source, frames)
    command = [python_of(PEERS / f"{peer}.txt"), PEERS / f"write_{peer}.py", source, target]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found = inspect_file(target, full_scale=full_scale)
    assert_counts(found, frames, full_scale)
    assert found.maps.saturated_px[2, 3] >= 3
