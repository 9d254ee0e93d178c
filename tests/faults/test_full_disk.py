"""F4: the disk fills up under the acquisition process; the run ends in words, and nothing that was there is harmed."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from devices.acquire import Progress, acquire
from devices.worker import acquire_in_child
from storage.disk import DiskFull
from storage.saving import save_frames
from tests.faults.disk_world import Capped, small_disk
from tests.faults.packed_world import SHAPE, Scheduled, Sent, frame, job
from tests.storage.damage_world import frames_in, sha256, told_of

SCAN, TOTAL = (50, 60), 3000
SCHEDULE = [Sent(index) for index in range(TOTAL)]
FRAMES_BYTES = TOTAL * SHAPE[0] * SHAPE[1] * 2
RESERVE = 2_000_000
MEGABYTES = 8

pytestmark = pytest.mark.usefixtures("warm_workers")


def nothing() -> None:
    """No detector to arm."""


def go_on(_progress: Progress) -> None:
    """A parent that is content."""


def filled(disk: Path, leave_bytes: int) -> Callable[[Progress], None]:
    """Somebody else fills the disk up when the first rows are in the file, but for so many bytes."""

    def on_progress(progress: Progress) -> None:
        other = disk / "other"
        if progress.frames_done and not progress.ended and not other.exists():
            other.write_bytes(bytes(shutil.disk_usage(disk).free - leave_bytes))

    return on_progress


def assert_a_prefix(frames: dict[int, np.ndarray]) -> None:
    assert sorted(frames) == list(range(len(frames)))
    for position, pixels in frames.items():
        np.testing.assert_array_equal(pixels, frame(position))


def saved_of(path: Path, folder: Path) -> dict[int, np.ndarray]:
    """What can be saved of a file, which has to be all that its ledger vouches for."""
    target = folder / "saved.saving.partial"
    facts = {"recovered_from": path.name, "recovered_from_sha256": sha256(path)}
    found, saved = save_frames(path, target, facts, lambda _: None)
    assert (found.damaged, found.lost, found.ledger_cut) == ((), (), ())
    assert saved.frames == found.recorded
    return frames_in(target)


def test_a_run_ends_at_the_reserve_and_the_next_one_begins_when_there_is_room(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", MEGABYTES) as disk:
        earlier = acquire(job(disk / "earlier.h5", Scheduled(TOTAL, SCHEDULE), SCAN), nothing, go_on).receipt
        wanted = job(disk / "pass1.h5", Scheduled(TOTAL, SCHEDULE), SCAN, reserve_bytes=RESERVE)
        with pytest.raises(DiskFull) as full:
            acquire_in_child(wanted, nothing, filled(disk, RESERVE))
        free = shutil.disk_usage(disk).free
        needed = full.value.needed_bytes
        # The file was closed since, on what the reserve is for.
        assert RESERVE < needed <= RESERVE + 64 * SHAPE[0] * SHAPE[1] * 2
        assert RESERVE - 200_000 < free <= full.value.free_bytes < needed
        assert f"{needed:,} bytes are needed (reserve included), {full.value.free_bytes:,} are free" in str(full.value)
        assert "Free some space" in str(full.value)
        # What came is whole and under its own name, what was there before is as it was.
        assert told_of(disk / "pass1.incomplete.h5") == []
        came = frames_in(disk / "pass1.incomplete.h5")
        assert 0 < len(came) < TOTAL
        assert_a_prefix(came)
        assert sha256(earlier.path) == earlier.sha256
        assert told_of(earlier.path) == []
        # Another run on the full disk is refused before anything is armed.
        with pytest.raises(DiskFull, match=f"{int(FRAMES_BYTES * 1.2) + RESERVE:,} bytes are needed"):
            acquire(job(disk / "pass2.h5", wanted.source, SCAN, reserve_bytes=RESERVE), pytest.fail, go_on)
        (disk / "other").unlink()
        result = acquire_in_child(job(disk / "pass2.h5", wanted.source, SCAN, reserve_bytes=RESERVE), nothing, go_on)
        assert result.receipt.complete


@pytest.mark.parametrize("leave_bytes", [0, 8192, 16384, 20480])
def test_without_a_reserve_too(leave_bytes: int, tmp_path: Path) -> None:
    """Where the last pages go to HDF5's own lists, the system refuses what the free space had promised."""
    with small_disk(tmp_path / "disk", MEGABYTES) as disk:
        earlier = acquire(job(disk / "earlier.h5", Scheduled(TOTAL, SCHEDULE), SCAN), nothing, go_on).receipt
        with pytest.raises(DiskFull, match=r"bytes are needed \(reserve included\), [\d,]+ are free"):
            acquire_in_child(
                job(disk / "pass1.h5", Scheduled(TOTAL, SCHEDULE), SCAN), nothing, filled(disk, leave_bytes)
            )
        assert sha256(earlier.path) == earlier.sha256
        assert told_of(earlier.path) == []
        (left,) = disk.glob("pass1*")
        assert_a_prefix(saved_of(left, tmp_path) if left.name == "pass1.h5.partial" else frames_in(left))


@pytest.mark.parametrize("largest_bytes", [120_000, 300_000, 500_000], ids=["first frames", "frames", "maps"])
def test_what_the_system_refuses_is_told_and_what_was_flushed_is_saved(
    largest_bytes: int, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    source = Capped(TOTAL, SCHEDULE, largest_bytes=largest_bytes)
    with pytest.raises(DiskFull, match=r"the system refuses to write more \(File too large\)") as full:
        acquire_in_child(job(tmp_path / "pass1.h5", source, SCAN), nothing, go_on)
    assert 0 < full.value.needed_bytes <= 2 * FRAMES_BYTES
    # Words only: HDF5's own complaints, and h5py's at the end of the process, are nobody's business.
    assert capfd.readouterr() == ("", "")
    (left,) = tmp_path.glob("pass1*")
    assert left.name == "pass1.h5.partial"
    came = saved_of(left, tmp_path)
    assert_a_prefix(came)
    # Per frame some 140 bytes; the structure of the file takes less than 100 kB.
    assert len(came) >= min(TOTAL, (largest_bytes - 100_000) // 150)
