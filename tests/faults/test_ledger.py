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
    to_its_end = len(outside) < 2 and len({sent.index for sent in schedule if sent.damage}) < 2
    try:
        result = acquire(job(path, Scheduled(TOTAL, schedule, sizes), SCAN), nothing, go_on)
    except DeviceFault:
        # Less than 99 % of 45 frames is one that is not there.
        assert (~held).any()
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


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
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


def test_more_than_a_hundredth_of_damaged_frames_ends_the_run_with_a_reason(tmp_path: Path) -> None:
    schedule = [Sent(index, "cut" if index in (3, 4) else "") for index in range(TOTAL)]
    result = acquire(job(tmp_path / "pass1.h5", Scheduled(TOTAL, schedule), SCAN), nothing, go_on)
    assert result.stopped == "2 frames could not be unpacked; 1 of 45 are borne with"
    assert sorted(each.name for each in (tmp_path / "pass1.corrupt").iterdir()) == ["000000003.bin", "000000004.bin"]


def test_a_detector_that_does_not_stop_is_left_after_a_hundredth_more(tmp_path: Path) -> None:
    schedule = [Sent(index) for index in range(500 * TOTAL)]
    result = acquire(job(tmp_path / "pass1.h5", Scheduled(TOTAL, schedule, [5]), SCAN), nothing, go_on)
    assert result.receipt.complete
    assert 2 <= result.frames.outside < 60
