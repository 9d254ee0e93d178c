"""What the ledger of a file says of its frames reaches the quality checks, whichever way the file is read."""

from pathlib import Path

from devices.passes import counts_dtype, maps_of
from stem4d.accumulate import AccumulatorSpec
from stem4d.quality.frames import check_frames
from stem4d.verdict import Verdict
from storage.read import open_frames
from tests.storage.damage_world import CORRUPT, DUPLICATE, MISSING, finished


def test_duplicate_and_corrupt_frames_of_a_file_are_judged(tmp_path: Path) -> None:
    spec = finished(tmp_path / "a.h5")
    with open_frames(spec.path) as frames:
        wanted = AccumulatorSpec(frames.detector_shape, counts_dtype(frames), (), frames.full_scale, threads=1)
        maps = maps_of(frames, wanted)
    assert maps.came_twice is not None
    assert maps.corrupt is not None
    assert (maps.came_twice.ravel().nonzero()[0].tolist(), maps.corrupt.ravel().nonzero()[0].tolist()) == (
        [DUPLICATE],
        [CORRUPT],
    )
    assert sorted((~maps.recorded).ravel().nonzero()[0].tolist()) == sorted([CORRUPT, MISSING])
    verdicts = {each.metric: each.verdict for each in check_frames((maps,))}
    assert verdicts["frames.duplicate"] is Verdict.WARN
    # Two of fifteen are more than a hundredth.
    assert verdicts["frames.missing"] is Verdict.FAIL
    assert verdicts["frames.corrupt"] is Verdict.FAIL
