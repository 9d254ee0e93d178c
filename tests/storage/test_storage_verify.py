"""Verifying: sound files pass, every flipped bit of a frame or of the ledger is found and named, nothing hangs."""

import errno
import os
from pathlib import Path

import h5py
import hypothesis.strategies as st
import pytest
from hypothesis import given, settings

from stem4d.errors import BadInput
from storage import layout
from storage.compare import compared
from storage.contents import Destroyed, contents_of
from storage.limited import RescueLimits
from storage.unclosed import Unclosed, lookup3
from storage.verify import verify_file
from tests.storage.damage_world import (
    CORRUPT,
    DUPLICATE,
    MISSING,
    accused,
    chunks_of,
    finished,
    flip,
    flipped,
    found_in,
    left_behind,
    recorded_of,
    sha256,
    told_of,
)
from tests.storage.storage_world import spec_at, written


@pytest.mark.parametrize(
    ("text", "value"),
    # The first two stand in the source of the hash; the third is of a superblock that HDF5 wrote.
    [
        (b"", 0xDEADBEEF),
        (b"Four score and seven years ago", 0x17770551),
        (
            bytes.fromhex("894844460d0a1a0a030808050000000000000000ffffffffffffffffd3820000000000003000000000000000"),
            0xEEB60D9D,
        ),
    ],
)
def test_the_hash_of_metadata_is_hdf5s(text: bytes, value: int) -> None:
    assert lookup3(text) == value


def test_a_sound_file_of_each_state_passes(tmp_path: Path) -> None:
    spec = finished(tmp_path / "a.h5")
    found = verify_file(spec.path, hashed=True)
    assert found.troubles == ()
    assert found.findings is not None
    one = found.findings
    assert (one.ok, one.missing, one.duplicate, one.corrupt) == (12, 1, 1, 1)
    assert (one.intact, one.recorded, one.how, one.run) == (13, 13, "finished", "r-0001")
    assert (found.state, found.bytes, found.sha256) == ("final", spec.path.stat().st_size, sha256(spec.path))


def test_a_stopped_file_is_sound_and_says_so_by_its_name(tmp_path: Path) -> None:
    spec = spec_at(tmp_path / "a.h5")
    written(spec_at(tmp_path / "b.h5"))
    (tmp_path / "b.h5").rename(spec.incomplete)
    assert told_of(spec.incomplete) == ["its name says incomplete, and it says itself that it was finished"]


def test_a_partial_file_is_not_sound_and_its_frames_are_counted(tmp_path: Path) -> None:
    spec = left_behind(tmp_path / "a.h5")
    found = found_in(spec.partial)
    assert (found.ok, found.duplicate, found.corrupt, found.how) == (57, 1, 1, "")
    assert found.intact == len(recorded_of(spec, 60))
    assert accused(found) == set()
    (told,) = told_of(spec.partial)
    assert "never closed" in told


def flip_the_ledger(path: Path, every: int) -> None:
    for name, width in ((layout.LEDGER_STATE, 1), (layout.LEDGER_CHECKSUM, 4)):
        start = chunks_of(path, name)[0].offset
        for position in (0, DUPLICATE, CORRUPT, MISSING):
            for bit in range(position % every, 8 * width, every if width > 1 else 1):
                with flipped(path, start + position * width + bit // 8, bit % 8):
                    assert accused(found_in(path)) == {position}
    assert told_of(path) == []


def test_flipped_bits_of_the_ledger_are_found_at_their_position(tmp_path: Path) -> None:
    flip_the_ledger(finished(tmp_path / "a.h5", (3, 4)).path, every=7)


@pytest.mark.slow
def test_every_flipped_bit_of_the_ledger_is_found_at_its_position(tmp_path: Path) -> None:
    flip_the_ledger(finished(tmp_path / "a.h5", (3, 4)).path, every=1)


@pytest.mark.parametrize("every", [7, pytest.param(1, marks=pytest.mark.slow)])
def test_flipped_bits_of_a_frame_are_found(tmp_path: Path, every: int) -> None:
    path = finished(tmp_path / "a.h5", (3, 4)).path
    place = chunks_of(path)[2]
    with contents_of(path) as (view, contents):
        for bit in range(0, place.size * 8, every):
            with flipped(path, place.offset + bit // 8, bit % 8):
                wrong = [int(one) for piece in compared(view, contents) for one in piece.positions[~piece.intact]]
                assert wrong == [2], bit


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Frames in several pieces of reading."""
    return finished(tmp_path_factory.mktemp("large") / "a.h5", (8, 9)).path


@settings(max_examples=25)
@given(st.data())
def test_exactly_the_frames_that_were_changed_are_named(large: Path, data: st.DataObject) -> None:
    places = chunks_of(large)
    changed = data.draw(st.dictionaries(st.sampled_from(sorted(places)), st.integers(0, 2**16), max_size=12))
    for position, random in changed.items():
        flip(large, places[position].offset + random % places[position].size, random % 8)
    try:
        found = found_in(large)
    finally:
        for position, random in changed.items():
            flip(large, places[position].offset + random % places[position].size, random % 8)
    assert accused(found) == set(changed)
    assert found.intact == found.recorded - len(changed)


def test_frames_that_the_disk_does_not_give_are_damaged_and_the_others_are_not(
    large: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    places, preadv = chunks_of(large), os.preadv
    bad = {position: places[position].offset + 7 for position in (13, 60)}

    def failing(handle: int, rooms: list[memoryview], offset: int) -> int:
        if any(offset <= at < offset + len(rooms[0]) for at in bad.values()):
            raise OSError(errno.EIO, "Input/output error")
        return preadv(handle, rooms, offset)

    monkeypatch.setattr("storage.unclosed.os.preadv", failing)
    found = found_in(large)
    assert found.damaged == ((13, 13), (60, 60))
    assert found.intact == found.recorded - 2


def test_frames_whose_checksums_are_of_frames_are_verified_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("storage.write.bitshuffle_lz4", lambda: None)
    path = finished(tmp_path / "a.h5").path
    assert told_of(path) == []
    place = chunks_of(path)[11]
    flip(path, place.offset + place.size - 3, 2)
    assert found_in(path).damaged == ((11, 11),)


@pytest.mark.parametrize("of", ["frame", "chunk"])
def test_a_file_packed_anew_is_compared_where_it_can_be(
    tmp_path: Path, of: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if of == "frame":
        monkeypatch.setattr("storage.write.bitshuffle_lz4", lambda: None)
    spec = spec_at(tmp_path / "a.h5", (4, 6), (16, 16))
    written(spec)
    with h5py.File(spec.path, "r+", libver=layout.LIBVER) as file:
        frames = file[layout.FRAMES][...]
        del file[layout.FRAMES]
        file.create_dataset(layout.FRAMES, data=frames, chunks=(2, 3, 16, 16), compression="gzip")
    told = told_of(spec.path)
    assert [line.partition(":")[0] for line in told] == ([] if of == "frame" else ["the frames were not compared"])
    with h5py.File(spec.path, "r+") as file:
        file[layout.FRAMES][1, 2, 3, 4] += 1
    assert found_in(spec.path).damaged == (((8, 8),) if of == "frame" else ())


def test_damage_to_the_structure_is_told_by_the_part(tmp_path: Path) -> None:
    path = finished(tmp_path / "a.h5").path
    with Unclosed(path) as view, h5py.File(view, "r") as file:
        online = h5py.h5o.get_info(file["entry/online/total"].id).addr
        ledger = h5py.h5o.get_info(file["entry/nightbeam/ledger"].id).addr
    with flipped(path, online + 20, 3):
        found = verify_file(path)
        assert found.findings is not None
        assert found.findings.intact == 13
        assert any(line.startswith("/entry/online/total: ") for line in found.troubles), found.troubles
    with flipped(path, ledger + 20, 3), pytest.raises(Destroyed, match="the ledger cannot be read"):
        found_in(path)
    with flipped(path, 14, 3):
        assert told_of(path) == ["the first bytes of the file (superblock) are damaged"]


def test_what_is_none_of_ours_is_refused(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["x"] = 1
    (tmp_path / "b.h5").write_text("no data")
    with pytest.raises(BadInput, match="not written by nightbeam"):
        found_in(tmp_path / "a.h5")
    with pytest.raises(BadInput, match="no HDF5 file"):
        found_in(tmp_path / "b.h5")
    with pytest.raises(BadInput, match="no such file"):
        verify_file(tmp_path / "c.h5")


def test_a_reader_that_does_not_get_on_is_killed_and_told(tmp_path: Path) -> None:
    # No reader can start, let alone answer, in a hundredth of a second.
    found = verify_file(finished(tmp_path / "a.h5").path, limits=RescueLimits(silence_s=0.01))
    assert found.troubles == (
        "HDF5 cannot stand what is damaged in it: reading it did not get on for 0.01 s",
    )  # fmt: skip
