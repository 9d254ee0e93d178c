"""The writer's promises: flushed frames survive a kill, the ledger is true, no file is replaced, the disk is kept."""

import errno
import hashlib
import os
import signal
import subprocess
import sys
import zlib
from pathlib import Path

import h5py
import numpy as np
import pytest

from stem4d.errors import BadInput
from storage.disk import DiskFull
from storage.layout import CORRUPT, DUPLICATE, FRAMES, LEDGER_STATE, MISSING, OK
from storage.ledger import damaged, recorded_positions
from storage.read import open_frames
from storage.spec import FileSpec
from storage.write import FileUnsound, FrameWriter
from tests.packing import bitshuffle
from tests.storage.storage_world import counts, spec_at, written

KILLED = """
import os, sys
from pathlib import Path
from storage.write import FrameWriter
from tests.storage.storage_world import counts, spec_at
spec = spec_at(Path(sys.argv[1]), (20, 20), (64, 64))
frames = counts(spec)
writer = FrameWriter(spec, clock=lambda: 0.0)
for first in range(0, int(sys.argv[2]), 10):
    writer.write(first, frames[first : first + 10])
    print(writer.frames_flushed, flush=True)
os.kill(os.getpid(), 9)
"""


@pytest.mark.parametrize("upto", [60, 330])
def test_flushed_frames_survive_kill_9(tmp_path: Path, upto: int) -> None:
    path = tmp_path / "a.h5"
    done = subprocess.run(
        [sys.executable, "-c", KILLED, str(path), str(upto)], cwd=Path(__file__).parents[2], capture_output=True
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    acknowledged = int(done.stdout.split()[-1])
    # Time stands still here, so a flush comes whenever the next ten would make more than 64 wait.
    assert acknowledged == {60: 0, 330: 300}[upto]
    spec = spec_at(path, (20, 20), (64, 64))
    assert not path.exists()
    with h5py.File(spec.partial, "r", swmr=True) as file:
        positions = np.flatnonzero(recorded_positions(file))
        assert positions.tolist() == list(range(acknowledged))
        assert list(damaged(file, positions)) == []
        np.testing.assert_array_equal(file[FRAMES][:].reshape(-1, 64, 64)[:acknowledged], counts(spec)[:acknowledged])
    with pytest.raises(BadInput, match=r"died before closing it.*Never run h5clear"):
        open_frames(spec.partial)
    with pytest.raises(BadInput, match="never overwritten"):
        FrameWriter(spec)


def test_flushes_after_64_frames_or_0_15_s(tmp_path: Path) -> None:
    spec, now = spec_at(tmp_path / "a.h5", (20, 20)), [0.0]
    frames = counts(spec)
    with FrameWriter(spec, clock=lambda: now[0]) as writer:
        flushed = []
        for at_s, first, count in [
            (0.0, 0, 63),
            (0.14, 63, 0),
            (0.15, 63, 0),
            (0.2, 63, 64),
            (0.3, 127, 5),
            (0.36, 132, 1),
        ]:
            now[0] = at_s
            writer.write(first, frames[first : first + count])
            writer.tick()
            flushed.append(writer.frames_flushed)
        assert flushed == [0, 0, 63, 127, 127, 133]


def test_marks_alone_are_flushed_too(tmp_path: Path) -> None:
    spec, now = spec_at(tmp_path / "a.h5"), [0.0]
    frames = counts(spec)
    stored: list[list[int]] = []
    with FrameWriter(spec, clock=lambda: now[0]) as writer:
        writer.write(0, frames[:1])
        now[0] = 0.3
        writer.tick()
        for at_s, mark in [
            (0.4, lambda: writer.mark_corrupt(3, b"not a frame")),
            (0.7, lambda: writer.mark_duplicate(0)),
            (0.8, lambda: writer.mark_corrupt(4, b"nor this")),
            (0.9, writer.tick),
        ]:
            now[0] = at_s
            mark()
            with h5py.File(spec.partial, "r", swmr=True) as file:
                stored.append(file[LEDGER_STATE][:5].tolist())
    assert stored == [
        [OK, MISSING, MISSING, MISSING, MISSING],
        [DUPLICATE, MISSING, MISSING, CORRUPT, MISSING],
        [DUPLICATE, MISSING, MISSING, CORRUPT, MISSING],
        [DUPLICATE, MISSING, MISSING, CORRUPT, CORRUPT],
    ]


def test_a_disk_that_failed_last_of_all_keeps_the_file_partial(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec, now = spec_at(tmp_path / "a.h5"), [0.0]

    def failed(_handle: int) -> None:
        raise OSError(errno.EIO, "the disk failed")

    # The sync of this descriptor alone: the kernel tells an error once, and a later one of another finds nothing.
    monkeypatch.setattr(os, "fdatasync", failed)
    writer = FrameWriter(spec, clock=lambda: now[0])
    now[0] = 2.0
    writer.write(0, counts(spec))
    with pytest.raises(OSError, match="the disk failed"):
        writer.finish({})
    assert os.listdir(tmp_path) == ["a.h5.partial"]


def test_a_reader_sees_flushed_frames_while_writing(tmp_path: Path) -> None:
    spec = spec_at(tmp_path / "a.h5")
    with FrameWriter(spec) as writer:
        writer.write(4, counts(spec)[4:7])
        writer.flush()
        with h5py.File(spec.partial, "r", swmr=True) as file:
            assert np.flatnonzero(file[LEDGER_STATE][:]).tolist() == [4, 5, 6]
        writer.finish({})


def test_finish_gives_a_true_receipt(tmp_path: Path) -> None:
    spec = spec_at(tmp_path / "a.h5")
    receipt = written(spec)
    assert receipt.path == spec.path
    assert receipt.sha256 == hashlib.sha256(spec.path.read_bytes()).hexdigest()
    assert (receipt.bytes, receipt.frames_written, receipt.complete) == (spec.path.stat().st_size, 15, True)
    assert os.listdir(tmp_path) == ["a.h5"]


def test_abandoning_keeps_what_there_is_and_says_why(tmp_path: Path) -> None:
    spec = spec_at(tmp_path / "a.h5")
    with FrameWriter(spec) as writer:
        writer.write(0, counts(spec)[:7])
        receipt = writer.abandon("saturated from row 1 on: " + "µ" * 400)
    assert receipt.path == tmp_path / "a.incomplete.h5"
    assert (receipt.frames_written, receipt.complete) == (7, False)
    with h5py.File(receipt.path) as file:
        reason = file["entry/nightbeam/end/reason"][0].decode()  # cut at 400 bytes, and not within a character
        assert reason.startswith("saturated from row 1 on: µµ")
        assert file["entry/nightbeam/end/how"][0] == b"abandoned"
    with open_frames(receipt.path) as read:
        assert np.flatnonzero(read.recorded).tolist() == list(range(7))


@pytest.mark.parametrize("error", [None, ZeroDivisionError("beam lost"), KeyboardInterrupt()])
def test_leaving_without_finish_abandons(tmp_path: Path, error: BaseException | None) -> None:
    spec = spec_at(tmp_path / "a.h5")

    def leave() -> None:
        with FrameWriter(spec) as writer:
            writer.write(0, counts(spec)[:2])
            if error is not None:
                raise error

    if error is None:
        leave()
    else:
        with pytest.raises(type(error)):
            leave()
    with h5py.File(spec.incomplete) as file:
        expected = f"{type(error).__name__}: {error}" if error else "left without finish"
        assert file["entry/nightbeam/end/reason"][0].decode() == expected
    assert not spec.path.exists()
    assert not spec.partial.exists()


@pytest.mark.parametrize("taken", ["a.h5", "a.h5.partial", "a.incomplete.h5"])
def test_an_existing_file_is_never_replaced(tmp_path: Path, taken: str) -> None:
    (tmp_path / taken).write_text("mine")
    with pytest.raises(BadInput, match="never overwritten"):
        FrameWriter(spec_at(tmp_path / "a.h5"))
    assert (tmp_path / taken).read_text() == "mine"


def test_a_file_that_appears_meanwhile_is_not_replaced_either(tmp_path: Path) -> None:
    spec = spec_at(tmp_path / "a.h5")
    writer = FrameWriter(spec)
    spec.path.write_text("mine")
    with pytest.raises(BadInput, match="never overwritten"):
        writer.finish({})
    assert spec.path.read_text() == "mine"
    assert spec.partial.exists()


@pytest.mark.parametrize(
    ("first", "frames", "match"),
    [
        (-1, np.zeros((1, 6, 7), np.uint16), "outside 0 to 14"),
        (14, np.zeros((2, 6, 7), np.uint16), "outside 0 to 14"),
        (0, np.zeros((1, 7, 6), np.uint16), "the file takes uint16"),
        (0, np.zeros((1, 6, 7), np.uint8), "the file takes uint16"),
        (0, np.zeros((1, 6, 7), ">u2"), "the file takes uint16"),
        (0, np.zeros((6, 7), np.uint16), "the file takes uint16"),
        (4, np.zeros((2, 6, 7), np.uint16), "written before"),
    ],
)
def test_frames_that_do_not_belong_are_refused(tmp_path: Path, first: int, frames: np.ndarray, match: str) -> None:
    spec = spec_at(tmp_path / "a.h5")
    with FrameWriter(spec) as writer:
        writer.write(5, counts(spec)[5:6])
        with pytest.raises(ValueError, match=match):
            writer.write(first, frames)
        assert writer.finish({}).frames_written == 1


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"path": Path("a.nxs")}, "end in .h5"),
        ({"path": Path("nowhere/a.h5")}, "no such folder"),
        ({"dtype": "complex64"}, "one of uint8"),
        ({"scan_shape": (0, 5)}, "at least 1"),
        ({"scan_shape": (2**14, 2**13)}, "67,108,864 positions"),
        ({"detector_shape": (2**14, 2**14)}, "268,435,456 a frame"),
        ({"metadata": {"Defocus": 1.0}}, "lower-case"),
        ({"metadata": {"a": [1, "x"]}}, "a list of numbers or of texts"),
        ({"metadata": {"a": None}}, "a number, text, true or false"),
        ({"metadata": {"a": 2**63}}, "64 bit"),
        ({"metadata": {"a": "x\0y"}}, "NUL"),
        ({"virtual_detectors": ("../x",)}, "letters, digits"),
    ],
)
def test_a_bad_specification_leaves_no_trace(tmp_path: Path, change: dict[str, object], match: str) -> None:
    known = {"path": tmp_path / "a.h5", "scan_shape": (3, 5), "detector_shape": (6, 7), "dtype": "uint16"}
    known |= {"scan_step_nm": None, "mrad_per_pixel": None, "full_scale": None}
    with pytest.raises(BadInput, match=match):
        FrameWriter(FileSpec(**{**known, **change}))  # type: ignore[arg-type]
    assert os.listdir(tmp_path) == []


def test_a_folder_that_takes_no_files_is_named() -> None:
    with pytest.raises(BadInput, match="cannot be created"):
        FrameWriter(spec_at(Path("/proc/a.h5")), free_bytes=lambda _: 10**12)


def test_the_disk_reserve_is_kept(tmp_path: Path) -> None:
    spec = spec_at(tmp_path / "a.h5", reserve_bytes=1000)
    needed = int(15 * 6 * 7 * 2 * 1.2) + 1000
    with pytest.raises(DiskFull) as refused:
        FrameWriter(spec, free_bytes=lambda _: needed - 1)
    assert (refused.value.needed_bytes, refused.value.free_bytes) == (needed, needed - 1)
    assert f"{needed:,} bytes are needed" in str(refused.value)
    assert os.listdir(tmp_path) == []
    free = [needed]
    with FrameWriter(spec, free_bytes=lambda _: free[0]) as writer:
        writer.write(0, counts(spec)[:3])
        free[0] = 1000 + 84 - 1  # one byte too little for one more frame of 84 bytes
        with pytest.raises(DiskFull):
            writer.write(3, counts(spec)[3:4])
        assert writer.abandon("disk full").frames_written == 3


def test_unknown_or_misshapen_maps_are_refused(tmp_path: Path) -> None:
    spec = spec_at(tmp_path / "a.h5")
    with FrameWriter(spec) as writer:
        for online in ({"totals": np.zeros((3, 5))}, {"total": np.zeros((5, 3))}, {"virtual/BF": np.zeros((3, 5))}):
            with pytest.raises(ValueError, match="no place in the file"):
                writer.finish(online)
        writer.finish({})


def test_a_frame_that_does_not_match_its_checksum_keeps_the_file_partial(tmp_path: Path) -> None:
    spec = spec_at(tmp_path / "a.h5", (1, 1))
    writer = FrameWriter(spec)
    frames = counts(spec)
    writer.write(0, frames)
    writer._ledger._checksums[0] ^= 1  # as if the bytes had changed on their way
    with pytest.raises(FileUnsound, match="position 0"):
        writer.finish({})
    assert os.listdir(tmp_path) == ["a.h5.partial"]


def packed(frames: np.ndarray) -> list[bytes]:
    """As a detector would send them."""
    return bitshuffle().pack(frames)


def write(writer: FrameWriter, positions: list[int], chunks: list[bytes]) -> None:
    """With the checksums of the chunks."""
    writer.write_chunks(positions, chunks, [zlib.crc32(chunk) for chunk in chunks])


def test_chunks_are_stored_as_they_came_and_the_ledger_says_what_became_of_each_position(tmp_path: Path) -> None:
    spec = spec_at(tmp_path / "a.h5")
    chunks = packed(counts(spec))
    with FrameWriter(spec) as writer:
        write(writer, [4, 2, 0], [chunks[4], chunks[2], chunks[0]])
        writer.mark_corrupt(3, b"not a frame")
        writer.mark_corrupt(1, b"nor this")
        write(writer, [1], [chunks[1]])  # it came again, and whole
        writer.mark_duplicate(2)
        receipt = writer.finish({})
    assert (receipt.frames_written, receipt.complete) == (4, False)
    with h5py.File(spec.path) as file:
        expected = [OK, OK, DUPLICATE, CORRUPT, OK, *[MISSING] * 10]
        assert file[LEDGER_STATE][:].tolist() == expected
        for position in (0, 1, 2, 4):
            assert file[FRAMES].id.read_direct_chunk((*divmod(position, 5), 0, 0)) == (0, chunks[position])
    with open_frames(spec.path) as read:
        assert np.flatnonzero(read.recorded).tolist() == [0, 1, 2, 4]
        assert read.came_twice is not None
        assert read.corrupt is not None
        assert (np.flatnonzero(read.came_twice).tolist(), np.flatnonzero(read.corrupt).tolist()) == ([2], [3])
        np.testing.assert_array_equal(
            np.concatenate([batch for _, batch in read.batches()]), counts(spec)[[0, 1, 2, 4]]
        )
    assert (spec.corrupt_folder / "000000003.bin").read_bytes() == b"not a frame"


@pytest.mark.parametrize(
    ("positions", "message"), [([15], "outside 0 to 14"), ([-1], "outside 0 to 14"), ([0, 4], "written before")]
)
def test_chunks_outside_the_scan_or_written_before_are_refused(
    tmp_path: Path, positions: list[int], message: str
) -> None:
    spec = spec_at(tmp_path / "a.h5")
    chunks = packed(counts(spec))
    with FrameWriter(spec) as writer:
        write(writer, [4], [chunks[4]])
        with pytest.raises(ValueError, match=message):
            write(writer, positions, [chunks[0]] * len(positions))
        assert writer.abandon("tried").frames_written == 1
