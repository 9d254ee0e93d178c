"""F23, F24: what a killed worker left, cut anywhere; files whose bits were changed after they were finished."""

import random
import time
from pathlib import Path

import pytest

from devices.acquire import acquire
from stem4d.errors import BadInput
from storage.read import open_frames
from storage.verify import verify_file
from tests.faults.kill_world import go_on, kill_once, nothing
from tests.faults.packed_world import Scheduled, Sent, job
from tests.storage.damage_world import accused, chunks_of, flipped, found_in, told_of

READER_ENDS_S = 20.0
H5CLEAR_LEAVES_BYTES = 447
"""What ``h5clear -s`` makes of a file of any size; a reader of it in the writer's own mode hangs for ever."""


@pytest.fixture
def left(warm_workers: None, tmp_path: Path) -> Path:
    """The file of a worker that was killed."""
    kill_once(tmp_path, "in order", 7, 2000)
    return tmp_path / "pass1.h5.partial"


@pytest.mark.parametrize(
    "share",
    [0.0, *(pytest.param(share, marks=pytest.mark.slow) for share in (0.1, 0.5, 0.9, 0.999))],
    ids=["as h5clear leaves it", "a tenth", "half", "nine tenths", "all but the last bytes"],
)
def test_a_reader_of_a_dead_workers_file_comes_to_its_end(left: Path, share: float) -> None:
    content = left.read_bytes()
    left.write_bytes(content[: round(share * len(content)) or H5CLEAR_LEAVES_BYTES])
    began = time.monotonic()
    found = verify_file(left)
    with pytest.raises(BadInput, match=r"died before closing it|damaged|not|cannot"):
        open_frames(left)
    assert time.monotonic() - began < READER_ENDS_S
    assert found.troubles
    assert any("never closed" in line or "cannot be read" in line for line in found.troubles)


def test_each_of_two_hundred_changed_bits_names_its_frame(tmp_path: Path) -> None:
    schedule = [Sent(index) for index in range(200)]
    wanted = job(tmp_path / "pass1.h5", Scheduled(len(schedule), schedule), (10, 20))
    file = acquire(wanted, nothing, go_on).receipt.path
    assert told_of(file) == []
    draw = random.Random(9)
    for position, place in chunks_of(file).items():
        with flipped(file, place.offset + draw.randrange(place.size), draw.randrange(8)):
            assert accused(found_in(file)) == {position}
    assert told_of(file) == []
