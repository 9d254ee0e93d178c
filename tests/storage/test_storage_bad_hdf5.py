"""Damaged and hostile HDF5: each gets one message, nothing outside the folder is opened, nothing large is allocated."""

import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import psutil
import pytest

import storage.guard
from stem4d.errors import BadInput
from storage import layout
from storage.frames import Frames
from storage.hdf5 import has_signature, open_hdf5
from storage.ledger import checksum
from storage.read import open_frames
from tests.packing import bitshuffle
from tests.storage.storage_world import counts, spec_at, written

SHAPE = (4, 4, 8, 8)


def opened(path: Path) -> Frames:
    """As ``open_frames`` does, but in this process: a child for each case would take half a minute."""
    return open_hdf5(path) if path.is_file() and path.stat().st_size and has_signature(path) else open_frames(path)


def read_all(path: Path) -> None:
    with opened(path) as frames:
        for _ in frames.batches():
            pass
        frames.online()


def plain(path: Path) -> None:
    with h5py.File(path, "w") as file:
        file["frames"] = np.ones(SHAPE, np.uint16)


def claim(shape: tuple[int, ...], chunks: tuple[int, ...] | None) -> Callable[[Path], None]:
    """One pixel is written, if its chunk is small."""

    def make(path: Path) -> None:
        with h5py.File(path, "w") as file:
            data = file.create_dataset("frames", shape, "u2", chunks=chunks, compression="gzip" if chunks else None)
            if chunks and chunks[-1] < 1024:
                data[(slice(0, 1),) * len(shape)] = 1

    return make


def external_link(path: Path) -> None:
    with h5py.File(path, "w") as file:
        file["group/away"] = h5py.ExternalLink("/tmp/elsewhere/secret.h5", "/data")


def link_above(path: Path) -> None:
    plain(path.parent.parent / "above.h5")
    with h5py.File(path, "w") as file:
        file["away"] = h5py.ExternalLink("../above.h5", "/frames")


def link_through_symlink(path: Path) -> None:
    plain(path.parent.parent / "above.h5")
    (path.parent / "beside.h5").symlink_to(path.parent.parent / "above.h5")
    with h5py.File(path, "w") as file:
        file["away"] = h5py.ExternalLink("beside.h5", "/frames")


def link_to_a_file_with_a_link(path: Path) -> None:
    external_link(path.parent / "beside.h5")
    with h5py.File(path, "w") as file:
        file["away"] = h5py.ExternalLink("beside.h5", "/group")


def external_storage(path: Path) -> None:
    with h5py.File(path, "w") as file:
        file.create_dataset("frames", SHAPE, "u1", external=[("/etc/hostname", 0, 1024)])


def virtual_outside(path: Path) -> None:
    plain(path.parent.parent / "above.h5")
    virtual = h5py.VirtualLayout(SHAPE, "u2")
    virtual[:] = h5py.VirtualSource(str(path.parent.parent / "above.h5"), "frames", SHAPE)
    with h5py.File(path, "w") as file:
        file.create_virtual_dataset("frames", virtual)


def unlimited_virtual(path: Path) -> None:
    virtual = h5py.VirtualLayout((1, *SHAPE[1:]), "u2", maxshape=(None, *SHAPE[1:]))
    source = h5py.VirtualSource("/dev/zero", "frames", (1, *SHAPE[1:]), maxshape=(None, *SHAPE[1:]))
    virtual[: h5py.h5s.UNLIMITED] = source[: h5py.h5s.UNLIMITED]
    with h5py.File(path, "w") as file:
        file.create_virtual_dataset("frames", virtual)


def no_frames(path: Path) -> None:
    with h5py.File(path, "w") as file:
        file["spectrum"] = np.ones(9)


def complex_frames(path: Path) -> None:
    with h5py.File(path, "w") as file:
        file["frames"] = np.ones(SHAPE, np.complex64)


def velox(path: Path) -> None:
    with h5py.File(path, "w") as file:
        file["Data/Image/1f/Data"] = np.ones((8, 8, 5), np.uint16)


def too_many_objects(path: Path) -> None:
    with h5py.File(path, "w") as file:
        for number in range(201):
            file[f"many/{number}"] = h5py.SoftLink("/x")


def ledger_of_another_length(path: Path) -> None:
    written(spec_at(path))
    with h5py.File(path, "r+") as file:
        del file[layout.LEDGER_STATE]
        file[layout.LEDGER_STATE] = np.ones(3, np.uint8)


def ours_without_frames(path: Path) -> None:
    written(spec_at(path))
    with h5py.File(path, "r+") as file:
        del file[layout.FRAMES]


def text(path: Path) -> None:
    path.write_text("not a data file\n")


def folder(path: Path) -> None:
    path.mkdir()


CASES = {
    "missing": (lambda path: None, "no such file"),
    "empty": (lambda path: path.touch(), "the file is empty"),
    "text": (text, "is not HDF5, though its name says so"),
    "folder": (folder, "not an ordinary file"),
    "8 TB in chunks": (claim((1000, 1000, 2000, 2000), (1, 1, 64, 64)), "8,000,000,000,000 B claimed"),
    "8 TB never written": (claim((1000, 1000, 2000, 2000), None), "8,000,000,000,000 B claimed"),
    "small and never written": (claim(SHAPE, None), "nothing was ever written"),
    "chunk of 512 MiB": (claim((2, 2, 16384, 16384), (1, 1, 16384, 16384)), "chunks of 536,870,912 B"),
    "frame of 512 MiB": (claim((1, 1, 16384, 16384), (1, 1, 64, 64)), "268,435,456 B a frame"),
    "external link": (external_link, "/group/away: got 'external link'; '/tmp/elsewhere/secret.h5'"),
    "link above its folder": (link_above, "external link'; '../above.h5': it is not a file in this file's own folder"),
    "link through a symlink": (link_through_symlink, "'beside.h5': it is not a file in"),
    "link to a file with a link": (link_to_a_file_with_a_link, r"beside.h5: /group/away"),
    "external storage": (external_storage, "/frames: got 'external raw storage'; '/etc/hostname'"),
    "virtual source outside": (virtual_outside, "virtual source'; '.*/above.h5'"),
    "unlimited virtual source": (unlimited_virtual, "virtual source'; '/dev/zero'"),
    "no frames": (no_frames, "needs a 4D array"),
    "complex frames": (complex_frames, "needs a 4D array"),
    "Velox": (velox, "frame number last"),
    "too many objects": (too_many_objects, "at most 200 "),
    "ledger of another length": (ledger_of_another_length, "ledger is of another length"),
    "ours without frames": (ours_without_frames, "not readable as HDF5"),
}


@pytest.mark.parametrize("case", CASES)
def test_refused_with_one_message(tmp_path: Path, case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storage.guard, "MAX_OBJECTS", 200)
    make, message = CASES[case]
    inside = tmp_path / "inside"
    inside.mkdir()
    make(inside / "a.h5")
    with pytest.raises(BadInput, match=message) as refused:
        read_all(inside / "a.h5")
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("kept", [1, 8, 100, 700, 5000, 0.3, 0.6, 0.9, 0.999])
def test_truncated_files_never_pass(tmp_path: Path, kept: float) -> None:
    spec = spec_at(tmp_path / "a.h5", (20, 20), (16, 16))
    written(spec)
    content = spec.path.read_bytes()
    spec.path.write_bytes(content[: int(kept if kept >= 1 else kept * len(content))])
    with pytest.raises(BadInput, match=r"truncated or damaged|not HDF5"):
        read_all(spec.path)


@pytest.mark.parametrize("hidden", [False, True], ids=["", "bitshuffle is hidden"])
def test_a_damaged_chunk_is_named(tmp_path: Path, hidden: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if hidden:
        monkeypatch.setattr("storage.hdf5.bitshuffle_lz4", lambda: None)
    spec = spec_at(tmp_path / "a.h5", (2, 2), (64, 64))
    written(spec)
    with h5py.File(spec.path) as file:
        chunk = file[layout.FRAMES].id.get_chunk_info(2)
    with open_frames(spec.path) as read:
        np.testing.assert_array_equal(np.concatenate([batch for _, batch in read.batches()]), counts(spec))
        assert "frames_not_checked" not in read.metadata
    with spec.path.open("r+b") as stream:
        stream.seek(chunk.byte_offset)
        stream.write(b"\xff" * 32)
    with pytest.raises(BadInput, match=r"position 2: .* has changed since it was written"):
        read_all(spec.path)


def test_a_virtual_file_of_its_own_folder_is_read(tmp_path: Path) -> None:
    plain(tmp_path / "part.h5")
    virtual = h5py.VirtualLayout(SHAPE, "u2")
    virtual[:] = h5py.VirtualSource("part.h5", "frames", SHAPE)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_virtual_dataset("frames", virtual)
        file["link"] = h5py.ExternalLink("part.h5", "/frames")
        file["loop"] = h5py.SoftLink("/loop")
        file["round/again"] = file["/"]
    with opened(tmp_path / "a.h5") as frames:
        assert frames.scan_shape == (4, 4)
        assert [(first, int(batch.sum())) for first, batch in frames.batches()] == [(0, 4 * 4 * 8 * 8)]


@pytest.mark.parametrize("dtype", [">u2", "<i4", ">f4", "<f8"])
def test_other_peoples_hdf5_is_read_in_native_order(tmp_path: Path, dtype: str) -> None:
    stack = np.arange(7 * 6 * 5).reshape(7, 6, 5).astype(dtype)
    with h5py.File(tmp_path / "a.hdf5", "w") as file:
        file.create_dataset("deep/in/stack", data=stack, chunks=(2, 3, 5))
        file["small"] = np.ones((2, 2, 2), np.uint8)
    with opened(tmp_path / "a.hdf5") as frames:
        assert (frames.kind, frames.scan_shape, frames.detector_shape) == ("foreign", (1, 7), (6, 5))
        assert (frames.full_scale, frames.metadata) == (None, {"dataset": "/deep/in/stack"})
        assert frames.dtype.isnative
        back = np.concatenate([batch for _, batch in frames.batches(max_bytes=300)])
        np.testing.assert_array_equal(back, stack)


def test_the_largest_4d_array_is_taken_and_read_by_rows_of_chunks(tmp_path: Path) -> None:
    large = np.arange(6 * 5 * 4 * 3, dtype=np.uint16).reshape(6, 5, 4, 3)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["small"] = large[:2]
        file.create_dataset("large", data=large, chunks=(2, 5, 2, 3))
        file["stack"] = np.zeros((9, 30, 30), np.uint16)
    with opened(tmp_path / "a.h5") as frames:
        # Room for 17 frames: three rows of five, of which two make a row of chunks.
        firsts = [first for first, _ in frames.batches(max_bytes=17 * 24)]
        assert firsts == [0, 10, 20]
        np.testing.assert_array_equal(
            np.concatenate([batch for _, batch in frames.batches(17 * 24)]), large.reshape(-1, 4, 3)
        )


@pytest.mark.parametrize("name", ["x" * 300 + ".h5", "a\0.h5", "..", "/dev/null", "/dev/zero"])
def test_names_that_are_no_files_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(BadInput, match=r"no such file|not an ordinary file"):
        open_frames(tmp_path / name)


def test_other_peoples_hdf5_is_opened_in_a_child(tmp_path: Path) -> None:
    plain(tmp_path / "a.h5")
    # Other tests of this process may have left helpers, such as multiprocessing's.
    before = set(psutil.Process().children())
    with open_frames(tmp_path / "a.h5") as frames:
        assert len(set(psutil.Process().children()) - before) == 1
        assert (frames.kind, frames.scan_shape, frames.metadata) == ("foreign", (4, 4), {"dataset": "/frames"})
        ((first, batch),) = frames.batches()
        assert (first, batch.shape, int(batch.sum())) == (0, (16, 8, 8), 16 * 8 * 8)
    external_storage(tmp_path / "b.h5")
    with pytest.raises(BadInput) as refused:
        open_frames(tmp_path / "b.h5")
    with pytest.raises(BadInput) as as_here:
        open_hdf5(tmp_path / "b.h5")
    assert str(refused.value) == str(as_here.value)


@pytest.mark.parametrize("of", ["frame", "chunk"])
def test_a_repacked_file_of_ours_is_still_read_and_checked_where_it_can_be(
    tmp_path: Path, of: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = spec_at(tmp_path / "a.h5", (4, 6), (16, 16))
    if of == "frame":
        monkeypatch.setattr("storage.write.bitshuffle_lz4", lambda: None)
    written(spec)
    with h5py.File(spec.path, "r+") as file:
        frames = file[layout.FRAMES][...]
        del file[layout.FRAMES]
        file.create_dataset(layout.FRAMES, data=frames, chunks=(2, 3, 16, 16), compression="gzip")
    with open_frames(spec.path) as read:
        np.testing.assert_array_equal(np.concatenate([batch for _, batch in read.batches()]), counts(spec))
        assert ("frames_not_checked" in read.metadata) is (of == "chunk")
    if of == "chunk":
        return
    with h5py.File(spec.path, "r+") as file:
        file[layout.FRAMES][1, 2, 3, 4] += 1
    with pytest.raises(BadInput, match=r"position 8: .*another checksum"):
        read_all(spec.path)


def test_every_flipped_bit_of_a_frame_is_found(tmp_path: Path) -> None:
    spec = spec_at(tmp_path / "a.h5", (1, 1), (16, 20))
    written(spec)
    with h5py.File(spec.path) as file:
        chunk = file[layout.FRAMES].id.get_chunk_info(0)
    content = spec.path.read_bytes()
    codec = bitshuffle()
    (truth,) = counts(spec)
    wrong = []
    for bit in range(chunk.size * 8):
        damaged = bytearray(content[chunk.byte_offset : chunk.byte_offset + chunk.size])
        damaged[bit // 8] ^= 1 << bit % 8
        frame = np.zeros_like(truth)
        try:
            codec.unpack([bytes(damaged)], frame[None])
        except ValueError:
            continue
        if checksum(frame) == checksum(truth) and not np.array_equal(frame, truth):
            wrong.append(bit)
    assert wrong == []


def test_a_huge_claim_is_refused_in_little_memory(tmp_path: Path) -> None:
    claim((1000, 1000, 2000, 2000), (1, 1, 64, 64))(tmp_path / "a.h5")
    code = (
        "import sys; from pathlib import Path; from storage.hdf5 import open_hdf5; import resource\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "try: open_hdf5(Path(sys.argv[1]))\n"
        "except Exception as error: print(type(error).__name__)\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)\n"
    )

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_AS, (2 * 2**30, 2 * 2**30))

    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "a.h5")],
        cwd=Path(__file__).parents[2],
        preexec_fn=limit,
        capture_output=True,
        text=True,
    )
    name, grown_kib = done.stdout.split()
    assert name == "BadInput"
    assert int(grown_kib) < 64 * 1024
