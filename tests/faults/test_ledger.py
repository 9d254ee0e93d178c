"""F7, F8: whatever a detector drops, repeats, mixes up or damages, the ledger says of each position what is true."""

import tempfile
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from devices.acquire import Progress, acquire
from devices.intake import FrameCounts
from stem4d.errors import DeviceFault
from storage.layout import CORRUPT, DUPLICATE, FRAMES, LEDGER_STATE, MISSING, OK
from storage.read import open_frames
from tests.faults.packed_world import Damage, Scheduled, Sent, expected_states, frame, job

SCAN = (5, 9)
TOTAL = 45
TRUTH = np.array([frame(index) for index in range(TOTAL)])
DAMAGES: list[Damage] = ["cut", "empty", "length", "block", "wrong size", "rubbish"]


def nothing() -> None:
    """No detector to arm."""


def go_on(_progress: Progress) -> None:
    """A parent that is content."""


@st.composite
def schedules(draw: st.DrawFn) -> list[Sent]:
    """All frames in order; then some are dropped, damaged, sent again, moved, or have numbers that nobody asked for."""
    sent = [Sent(index) for index in range(TOTAL)]
    for _ in range(draw(st.integers(0, 12))):
        at = draw(st.integers(0, max(0, len(sent) - 1)))
        match draw(st.sampled_from(["drop", "damage", "again", "damaged again", "move", "outside"])):
            case "drop" if len(sent) > 1:
                del sent[at]
            case "damage":
                sent[at] = Sent(sent[at].index, draw(st.sampled_from(DAMAGES)))
            case "again":
                sent.insert(draw(st.integers(0, len(sent))), sent[at])
            case "damaged again":
                sent.insert(draw(st.integers(0, len(sent))), Sent(sent[at].index, draw(st.sampled_from(DAMAGES))))
            case "move":
                sent.insert(draw(st.integers(0, len(sent) - 1)), sent.pop(at))
            case "outside":
                sent.insert(at, Sent(draw(st.sampled_from([-1, TOTAL, 2**31]))))
    return sent


def check(schedule: list[Sent], sizes: list[int], folder: Path) -> None:
    """Acquire the schedule, and hold file and result to it."""
    stated = expected_states(schedule, TOTAL)
    held = np.isin(stated, (OK, DUPLICATE))
    path = folder / "pass1.h5"
    outside = [at for at, sent in enumerate(schedule) if not 0 <= sent.index < TOTAL]
    # A detector that sends too much is left when all is there, and a run with too many damaged frames is given up,
    # also where they would have come again.
    to_its_end = len(outside) < 2 and not any(sent.damage for sent in schedule if 0 <= sent.index < TOTAL)
    try:
        result = acquire(job(path, Scheduled(TOTAL, schedule, sizes), SCAN), nothing, go_on)
    except DeviceFault:
        # Of 45 frames, one that is not there is more than a hundredth.
        assert (~held).any() or not to_its_end
        path = folder / "pass1.incomplete.h5"
    else:
        path = result.receipt.path
        if to_its_end:
            assert held.all()
            assert result.frames == FrameCounts(
                *(int((stated == state).sum()) for state in (OK, MISSING, DUPLICATE, CORRUPT)), len(outside)
            )
    with h5py.File(path) as file:
        found = file[LEDGER_STATE][:]
        if to_its_end:
            np.testing.assert_array_equal(found, stated)
        whole = np.isin(found, (OK, DUPLICATE))
        np.testing.assert_array_equal(file[FRAMES][:].reshape(TRUTH.shape)[whole], TRUTH[whole])
    with open_frames(path) as read:
        for first, frames in read.batches():
            np.testing.assert_array_equal(frames, TRUTH[first : first + len(frames)])


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(schedules(), st.lists(st.integers(1, 20), min_size=1, max_size=4))
def test_the_ledger_equals_what_was_sent(schedule: list[Sent], sizes: list[int]) -> None:
    with tempfile.TemporaryDirectory(prefix="nightbeam-ledger-") as folder:
        check(schedule, sizes, Path(folder))


@pytest.mark.slow
@pytest.mark.timeout(1200)
@settings(max_examples=1000, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(schedules(), st.lists(st.integers(1, 70), min_size=1, max_size=4))
def test_the_ledger_equals_what_was_sent_a_thousand_times(schedule: list[Sent], sizes: list[int]) -> None:
    with tempfile.TemporaryDirectory(prefix="nightbeam-ledger-") as folder:
        check(schedule, sizes, Path(folder))


def test_a_hundredth_of_lost_frames_is_borne_with_and_known(tmp_path: Path) -> None:
    total, scan = 300, (15, 20)
    sent = [Sent(index, "cut" if index in (3, 70, 200) else "") for index in range(total) if index != 150]
    # The frame at 70 comes again whole, the one at 40 twice: lost for good are one that never came and two damaged.
    schedule = [*sent, Sent(70), Sent(40)]
    result = acquire(job(tmp_path / "pass1.h5", Scheduled(total, schedule), scan), nothing, go_on)
    assert result.frames == FrameCounts(ok=296, missing=1, duplicate=1, corrupt=2)
    with h5py.File(result.receipt.path) as file:
        np.testing.assert_array_equal(file[LEDGER_STATE][:], expected_states(schedule, total))
    one_more = job(tmp_path / "pass2.h5", Scheduled(total, [one for one in schedule if one.index != 299]), scan)
    with pytest.raises(DeviceFault, match=r"sent 296 of 300 frames, and 2 that could not be unpacked.*incomplete"):
        acquire(one_more, nothing, go_on)


def test_more_than_a_hundredth_of_damaged_frames_is_a_fault_at_once(tmp_path: Path) -> None:
    total, ended = 300, []
    schedule = [Sent(index, "cut" if index in (3, 4, 5, 6) else "") for index in range(total)]
    with pytest.raises(DeviceFault, match=r"4 frames could not be unpacked; 3 of 300 are borne with.*incomplete"):
        acquire(job(tmp_path / "pass1.h5", Scheduled(total, schedule, [5]), (15, 20)), nothing, ended.append)
    # Three batches of five are on their way through the threads when the fourth damaged frame is found.
    assert ended[-1].frames_done < 30
    names = sorted(each.name for each in (tmp_path / "pass1.corrupt").iterdir())
    assert names == [f"{position:09d}.bin" for position in (3, 4, 5, 6)]


def test_a_detector_that_does_not_stop_is_left_after_a_hundredth_more(tmp_path: Path) -> None:
    schedule = [Sent(index) for index in range(500 * TOTAL)]
    result = acquire(job(tmp_path / "pass1.h5", Scheduled(TOTAL, schedule, [5]), SCAN), nothing, go_on)
    assert result.receipt.complete
    assert 2 <= result.frames.outside < 60
