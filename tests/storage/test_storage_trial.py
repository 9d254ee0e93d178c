"""One of our own files that was damaged on its way: a verdict or one message, within the limits, never a crash."""

import random
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from storage_world import spec_at, written

from stem4d.errors import BadInput
from storage.foreign import ChildLimits
from storage.read import open_frames

LIMITS = ChildLimits(memory_bytes=2**30, first_answer_s=20.0, batch_s=20.0, cpu_s=20)


def own_file(folder: Path) -> Path:
    spec = spec_at(folder / "own.h5")
    written(spec)
    return spec.path


def read_warily(path: Path) -> int:
    with open_frames(path, LIMITS, wary=True) as frames:
        frames.online()
        return sum(len(batch) for _, batch in frames.batches())


def mutated(sound: bytes, seed: int) -> bytes:
    """A few bytes changed, most of them where HDF5 keeps its structure."""
    draw = random.Random(seed)
    damaged = bytearray(sound)
    for _ in range(draw.choice((1, 4, 32))):
        damaged[draw.randrange(min(len(damaged), draw.choice((96, 4096, len(damaged)))))] = draw.randrange(256)
    if draw.random() < 0.2:
        del damaged[draw.randrange(len(damaged)) :]
    return bytes(damaged)


def hold(folder: Path, seeds: range) -> None:
    path = own_file(folder)
    sound = path.read_bytes()
    for seed in seeds:
        path.write_bytes(mutated(sound, seed))
        with suppress(BadInput):
            assert read_warily(path) <= 15


def test_a_sound_file_is_read_as_without_the_trial(tmp_path: Path) -> None:
    path = own_file(tmp_path)
    with open_frames(path) as plain, open_frames(path, LIMITS, wary=True) as wary:
        assert wary.kind == "nightbeam"
        assert dict(wary.metadata) == dict(plain.metadata)
        assert wary.full_scale == plain.full_scale
        for (first, here), (second, there) in zip(plain.batches(), wary.batches(), strict=True):
            assert first == second
            np.testing.assert_array_equal(here, there)


def test_a_file_whose_reading_does_not_end_is_given_up(tmp_path: Path) -> None:
    # No reader can start, let alone answer, in a hundredth of a second.
    with pytest.raises(BadInput, match=r"did not end within 0\.01 s"):
        open_frames(own_file(tmp_path), ChildLimits(first_answer_s=0.01), wary=True)


def test_damaged_files_of_our_own_end_in_words(tmp_path: Path) -> None:
    hold(tmp_path, range(6))


@pytest.mark.slow
def test_two_hundred_damaged_files_of_our_own_end_in_words(tmp_path: Path) -> None:
    hold(tmp_path, range(1000, 1200))
