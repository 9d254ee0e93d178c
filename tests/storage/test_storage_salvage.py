"""Saving frames: exactly those that are intact, the old file bit for bit as it was, nothing half done."""

import hashlib
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from stem4d.errors import BadInput
from storage import layout
from storage.contents import Destroyed
from storage.disk import DiskFull
from storage.findings import Findings
from storage.holders import writers_of
from storage.limited import RescueLimits
from storage.read import open_frames
from storage.salvage import NotSaved, Salvaged, recovered_path, salvage
from storage.saving import Saved, save_frames
from storage.unclosed import Unclosed
from storage.write import FrameWriter
from tests.storage.damage_world import (
    CORRUPT,
    DUPLICATE,
    MISSING,
    accused,
    chunks_of,
    finished,
    flip,
    found_in,
    frames_in,
    left_behind,
    positions_of,
    recorded_of,
    sha256,
    told_of,
)
from tests.storage.storage_world import FACTS, counts, spec_at, written
from tests.storage.test_storage_write import KILLED

ROOT = Path(__file__).parents[2]
FACT = {"recovered_from": "a", "recovered_from_sha256": "0" * 64}


def saved_here(path: Path, to: str = "b.saving.partial") -> tuple[Findings, Saved, dict[int, Any]]:
    """Saved in this process: a child for each case would take minutes. With the frames of the new file."""
    target = path.with_name(to)
    found, saved = save_frames(path, target, FACT, lambda _: None)
    frames = frames_in(target)
    target.unlink()
    assert saved.frames == len(frames) == found.intact
    return found, saved, frames


@cache
def truth_of(scan: tuple[int, int], detector: tuple[int, int]) -> Any:
    """What ``left_behind`` and the writers here wrote."""
    return counts(spec_at(Path("a.h5"), scan, detector))


def assert_truth(frames: dict[int, Any], spec: Any, positions: list[int]) -> None:
    assert sorted(frames) == positions
    truth = truth_of(spec.scan_shape, spec.detector_shape)
    for position, frame in frames.items():
        np.testing.assert_array_equal(frame, truth[position])


def test_a_killed_writers_file_is_saved_whole_and_stays_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    done = subprocess.run([sys.executable, "-c", KILLED, str(path), "330"], cwd=ROOT, capture_output=True)
    assert done.returncode == -signal.SIGKILL, done.stderr
    spec, flushed = spec_at(path, (20, 20), (64, 64)), int(done.stdout.split()[-1])
    before = sha256(spec.partial)
    result = salvage(spec.partial)
    assert sha256(spec.partial) == before == result.source_sha256
    assert sorted(os.listdir(tmp_path)) == ["a.h5.partial", "a.recovered.h5"]
    assert (result.frames, result.findings.recorded, result.whole) == (flushed, flushed, True)
    assert result.sha256 == sha256(result.path)
    assert_truth(frames_in(result.path), spec, list(range(flushed)))
    with open_frames(result.path) as read:
        assert read.kind == "nightbeam"
        assert np.flatnonzero(read.recorded).tolist() == list(range(flushed))
        assert read.full_scale == 4095
        expected = {**FACTS, "scan_step_nm": 0.5, "mrad_per_pixel": 1.25}
        expected |= {"recovered_from": "a.h5.partial", "recovered_from_sha256": before}
        assert dict(read.metadata) == expected
        np.testing.assert_array_equal(
            np.concatenate([batch for _, batch in read.batches()]), counts(spec)[:flushed]
        )  # fmt: skip
    with pytest.raises(BadInput, match="never overwritten"):
        salvage(spec.partial)


def test_the_new_ledger_says_what_became_of_each_position(tmp_path: Path) -> None:
    spec = left_behind(tmp_path / "a.h5")
    place = chunks_of(spec.partial)[21]
    flip(spec.partial, place.offset + place.size // 2, 5)
    target = tmp_path / "b.saving.partial"
    save_frames(spec.partial, target, FACT, lambda _: None)
    with h5py.File(target) as file:
        states = file[layout.LEDGER_STATE][:]
        assert file[layout.ENDED][0] == b"recovered"
        assert file[layout.REASON][0] == b"recovered from a.h5.partial: 57 of 58 flushed frames; corrupt 21"
    expected = np.full(80, layout.MISSING)
    expected[recorded_of(spec, 60)] = layout.OK
    expected[DUPLICATE], expected[[CORRUPT, 21]], expected[MISSING] = layout.DUPLICATE, layout.CORRUPT, layout.MISSING
    assert states.tolist() == expected.tolist()


def cut_at(folder: Path, lengths: list[int]) -> int:
    """Truncate at each length: what is saved is exactly what lies before the cut with its entry in the ledger."""
    spec = left_behind(folder / "a.h5", (20, 20), 300, side=48)
    sound, places = spec.partial.read_bytes(), chunks_of(spec.partial)
    state, crc = (chunks_of(spec.partial, name)[0] for name in (layout.LEDGER_STATE, layout.LEDGER_CHECKSUM))
    path, some = folder / "cut.h5.partial", 0
    for length in lengths:
        path.write_bytes(sound[:length])
        expected = [
            one
            for one in recorded_of(spec, 300)
            if max(sum(places[one]), state.offset + one + 1, crc.offset + 4 * (one + 1)) <= length
        ]
        try:
            found, _, frames = saved_here(path)
        except (Destroyed, BadInput):
            assert not expected
            assert not (folder / "b.saving.partial").exists()
            continue
        assert_truth(frames, spec, expected)
        some += bool(expected)
        if length >= max(sum(state), sum(crc)):
            assert positions_of(found.lost) == [one for one in recorded_of(spec, 300) if one not in expected]
        assert hashlib.sha256(sound[:length]).hexdigest() == sha256(path)
    return some


def test_a_file_cut_anywhere_gives_what_lies_before_the_cut(tmp_path: Path) -> None:
    spec = left_behind(tmp_path / "a.h5", (20, 20), 300, side=48)
    draw, size = random.Random(4), spec.partial.stat().st_size
    (tmp_path / "cut").mkdir()
    assert cut_at(tmp_path / "cut", [0, 1, 60, *(draw.randrange(size) for _ in range(27))]) >= 10


@pytest.mark.slow
def test_a_file_cut_at_three_hundred_lengths_gives_what_lies_before_the_cut(tmp_path: Path) -> None:
    spec = left_behind(tmp_path / "a.h5", (20, 20), 300, side=48)
    draw, size = random.Random(5), spec.partial.stat().st_size
    (tmp_path / "cut").mkdir()
    assert cut_at(tmp_path / "cut", [draw.randrange(size) for _ in range(300)]) >= 100


def break_the_index(path: Path) -> None:
    """Flip a bit in the list of the frames' places; the other data sets have such lists too."""
    content = path.read_bytes()
    for at in [found for found in range(len(content)) if content[found : found + 4] == b"FADB"]:
        flip(path, at + 40, 3)
        with suppress(Destroyed):
            if found_in(path).index:
                return
        flip(path, at + 40, 3)
    pytest.fail("no index of the frames was found")


def test_frames_whose_index_is_destroyed_are_found_by_their_own_bytes(tmp_path: Path) -> None:
    spec = left_behind(tmp_path / "a.h5", (20, 20), 300)
    break_the_index(spec.partial)
    assert positions_of(found_in(spec.partial).lost) == recorded_of(spec, 300)
    found, saved, frames = saved_here(spec.partial)
    assert_truth(frames, spec, recorded_of(spec, 300))
    assert (saved.carved, found.lost) == (298, ())


def test_like_frames_whose_index_is_destroyed_are_given_to_each_position(tmp_path: Path) -> None:
    spec = spec_at(tmp_path / "a.h5", (4, 10), (16, 16))
    frames = counts(spec)
    frames[10:20] = frames[5]
    with FrameWriter(spec) as writer:
        writer.write(0, frames[:30])
        writer.flush()
        shutil.copy(spec.partial, tmp_path / "b.h5.partial")
        writer.finish({})
    path = tmp_path / "b.h5.partial"
    break_the_index(path)
    _, saved, back = saved_here(path)
    assert saved.carved == 30
    for position in range(30):
        np.testing.assert_array_equal(back[position], frames[position])


def test_a_destroyed_superblock_costs_nothing_and_a_destroyed_root_everything(tmp_path: Path) -> None:
    spec = left_behind(tmp_path / "a.h5")
    content = spec.partial.read_bytes()
    spec.partial.write_bytes(bytes(48) + content[48:])
    _, _, frames = saved_here(spec.partial)
    assert_truth(frames, spec, recorded_of(spec, 60))
    spec.partial.write_bytes(content[:60] + bytes(200) + content[260:])
    before = sha256(spec.partial)
    with pytest.raises(NotSaved, match=r"structure of the file cannot be read: .*The file is as it was\. Keep it"):
        salvage(spec.partial)
    assert sha256(spec.partial) == before
    assert os.listdir(tmp_path) == ["a.h5.partial"]


def test_destroyed_settings_cost_the_settings_only(tmp_path: Path) -> None:
    spec = left_behind(tmp_path / "a.h5")
    with Unclosed(spec.partial) as view, h5py.File(view, "r") as file:
        settings = h5py.h5o.get_info(file[layout.METADATA].id).addr
    flip(spec.partial, settings + 20, 3)
    found, _, frames = saved_here(spec.partial)
    assert [part.partition(":")[0] for part in found.unread] == ["the settings"]
    assert_truth(frames, spec, recorded_of(spec, 60))


def test_a_finished_file_with_flipped_bits_gives_the_others(tmp_path: Path) -> None:
    spec = finished(tmp_path / "a.h5")
    places = chunks_of(spec.path)
    for position in (3, 8):
        flip(spec.path, places[position].offset + 20, 1)
    before = sha256(spec.path)
    result = salvage(spec.path)
    assert (result.path.name, result.frames, result.whole) == ("a.recovered.h5", 11, False)
    assert result.findings.damaged == ((3, 3), (8, 8))
    assert sha256(spec.path) == before
    assert_truth(frames_in(result.path), spec, [one for one in recorded_of(spec) if one not in (3, 8)])
    assert told_of(result.path) == []


def test_a_sound_file_is_not_recovered(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="nothing to recover"):
        salvage(finished(tmp_path / "a.h5").path)


def test_frames_with_checksums_of_frames_are_saved_as_such(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("storage.write.bitshuffle_lz4", lambda: None)
    spec = left_behind(tmp_path / "a.h5")
    _, _, frames = saved_here(spec.partial)
    assert_truth(frames, spec, recorded_of(spec, 60))


def test_a_file_that_is_still_written_to_is_left_alone(tmp_path: Path) -> None:
    spec = spec_at(tmp_path / "a.h5")
    with FrameWriter(spec) as writer:
        writer.write(0, counts(spec)[:4])
        writer.flush()
        assert writers_of(spec.partial) == (os.getpid(),)
        with pytest.raises(BadInput, match=f"open in process {os.getpid()}.*still being written"):
            salvage(spec.partial)
        writer.finish({})
    assert writers_of(spec.path) == ()


def test_the_disk_space_is_asked_for_before_anything_is_written(tmp_path: Path) -> None:
    spec = left_behind(tmp_path / "a.h5")
    with pytest.raises(DiskFull, match="bytes are needed") as refused:
        salvage(spec.partial, reserve_bytes=5000, free_bytes=lambda _: 7000)
    assert refused.value.needed_bytes > spec.partial.stat().st_size + 5000
    assert refused.value.free_bytes == 7000
    assert os.listdir(tmp_path) == ["a.h5.partial"]


def test_a_disk_that_fills_up_meanwhile_leaves_nothing(tmp_path: Path) -> None:
    """The kernel's own limit of a file's length stands for the disk's."""
    spec = left_behind(tmp_path / "a.h5", (20, 20), 300)
    before = sha256(spec.partial)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, hard))
    try:
        with pytest.raises(DiskFull, match=r"bytes are needed .* the system refuses to write more"):
            salvage(spec.partial)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert os.listdir(tmp_path) == ["a.h5.partial"]
    assert sha256(spec.partial) == before


def test_what_a_writer_left_on_a_full_disk_is_saved(tmp_path: Path) -> None:
    code = (
        "import resource, sys; from pathlib import Path; from storage.write import FrameWriter\n"
        "from tests.storage.storage_world import counts, spec_at\n"
        "spec = spec_at(Path(sys.argv[1]), (20, 20), (64, 64)); writer = FrameWriter(spec); frames = counts(spec)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (600_000, 600_000))\n"
        "for first in range(0, 400, 10):\n"
        "    writer.write(first, frames[first : first + 10]); print(writer.frames_flushed, flush=True)\n"
    )
    path = tmp_path / "a.h5"
    done = subprocess.run([sys.executable, "-c", code, str(path)], cwd=ROOT, capture_output=True)
    assert done.returncode != 0
    flushed = int(done.stdout.split()[-1])
    spec = spec_at(path, (20, 20), (64, 64))
    left = spec.partial if spec.partial.exists() else spec.incomplete
    _, _, frames = saved_here(left)
    assert flushed <= len(frames) < 400
    assert flushed > 100
    assert_truth(frames, spec, list(range(len(frames))))


SAVE = "import sys; from pathlib import Path; from storage.salvage import salvage; salvage(Path(sys.argv[1]))"


def test_a_recovery_that_is_killed_leaves_the_old_file_and_the_next_one_does_it(tmp_path: Path) -> None:
    spec = left_behind(tmp_path / "a.h5", (40, 40), 1600)
    before = sha256(spec.partial)
    child = subprocess.Popen([sys.executable, "-c", SAVE, str(spec.partial)], cwd=ROOT)
    passing = tmp_path / "a.recovered.saving.partial"
    while not passing.exists():
        assert child.poll() is None
        time.sleep(0.001)
    child.kill()
    child.wait()
    assert sha256(spec.partial) == before
    if not recovered_path(spec.partial).exists():  # it may have been done in that moment
        deadline = time.monotonic() + 20
        while passing.exists() and writers_of(passing):
            # The child that wrote it ends when it finds that its parent has gone.
            assert time.monotonic() < deadline
            time.sleep(0.01)
        result = salvage(spec.partial)
        assert result.whole
    assert_truth(frames_in(recovered_path(spec.partial)), spec, recorded_of(spec))
    assert sorted(os.listdir(tmp_path)) == ["a.h5.partial", "a.recovered.h5"]


def test_a_reader_that_hangs_is_killed_and_leaves_nothing(tmp_path: Path) -> None:
    spec = left_behind(tmp_path / "a.h5")
    with pytest.raises(NotSaved, match=r"did not get on for 0\.01 s"):
        salvage(spec.partial, limits=RescueLimits(silence_s=0.01))
    assert os.listdir(tmp_path) == ["a.h5.partial"]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("pass1.h5.partial", "pass1.recovered.h5"),
        ("pass1.h5", "pass1.recovered.h5"),
        ("pass1.incomplete.h5", "pass1.recovered.h5"),
    ],
)
def test_names(name: str, expected: str, tmp_path: Path) -> None:
    assert recovered_path(tmp_path / name) == tmp_path / expected
    assert recovered_path(tmp_path / name, Path("x")) == Path("x") / expected


def mutate(folder: Path, seeds: range) -> int:
    """A few bytes changed anywhere, most of them in the structure: what is saved is true, and the rest is words."""
    spec = left_behind(folder / "a.h5", (8, 10), 60)
    sound, some = spec.partial.read_bytes(), 0
    path = folder / "c.h5.partial"
    for seed in seeds:
        draw, damaged = random.Random(seed), bytearray(sound)
        for _ in range(draw.choice((1, 4, 32))):
            damaged[draw.randrange(draw.choice((96, 4096, len(damaged))))] = draw.randrange(256)
        path.write_bytes(damaged)
        before = sha256(path)
        result: Salvaged | None = None
        with suppress(NotSaved, BadInput):
            result = salvage(path, limits=RescueLimits(memory_bytes=2**30, silence_s=20.0, cpu_s=20))
        assert sha256(path) == before
        if result is None:
            assert not recovered_path(path).exists()
            continue
        frames = frames_in(result.path)
        wrong = accused(result.findings)
        # A position whose own entry was changed may be lost; none of the others is, and none is false.
        assert set(recorded_of(spec, 60)) - wrong <= set(frames)
        assert_truth(frames, spec, sorted(frames))
        some += 1
        result.path.unlink()
    return some


def test_damaged_files_give_true_frames_or_words(tmp_path: Path) -> None:
    mutate(tmp_path, range(1))


@pytest.mark.slow
def test_two_hundred_damaged_files_give_true_frames_or_words(tmp_path: Path) -> None:
    assert mutate(tmp_path, range(1000, 1200)) > 50


def test_a_sound_file_stays_sound_after_a_repacking_writer(tmp_path: Path) -> None:
    spec = spec_at(tmp_path / "a.h5")
    written(spec)
    with h5py.File(spec.path, "r+", libver=layout.LIBVER) as file:
        frames = file[layout.FRAMES][...]
        del file[layout.FRAMES]
        file.create_dataset(layout.FRAMES, data=frames, chunks=(1, 5, 6, 7), compression="gzip")
    with pytest.raises(BadInput, match="packed anew"):
        save_frames(spec.path, tmp_path / "b.saving.partial", FACT, lambda _: None)
    assert os.listdir(tmp_path) == ["a.h5"]
