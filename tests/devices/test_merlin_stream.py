"""Frames of an emulated Merlin over real sockets: every count at every depth, and every way to lose one."""

import pickle
import socket
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from devices.merlin.stream import NUMBERS, MerlinFrames, MerlinStream
from stem4d.errors import DeviceFault
from tests.devices.merlin_emulator import MerlinEmulator, Tamper, prefixed
from tests.devices.merlin_world import FRAMES, asked, detector_of, exposed, followed
from tests.devices.simplon_world import Clock


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("depth", [1, 6, 12, 24])
def test_every_count_of_every_depth_arrives(depth: int, packed: bool) -> None:
    with MerlinEmulator() as emulator:
        got = exposed(emulator, detector_of(emulator, packed=packed), asked(bit_depth=depth))
        frames = emulator.frames
    assert frames.max() == (1 << depth) - 1
    assert (got.numbers, got.damaged, got.strays) == (list(range(FRAMES)), {}, 0)
    assert {frame.dtype for frame in got.frames.values()} == {frames.dtype}
    np.testing.assert_array_equal([got.frames[number] for number in range(FRAMES)], frames)


@pytest.mark.parametrize("trigger", ["software", "position", "scan"])
def test_every_trigger_gives_all_frames(trigger: str) -> None:
    with MerlinEmulator() as emulator:
        got = exposed(emulator, detector_of(emulator, trigger_by=trigger))
        assert sum(int(frame.sum()) for frame in got.frames.values()) == emulator.frames.sum()
        assert emulator.values["NUMFRAMESPERTRIGGER"] == ("1" if trigger == "position" else str(FRAMES))
    assert got.numbers == list(range(FRAMES))


def tampering(changes: dict[int, Any]) -> Tamper:
    """What is done to the blocks of some numbers, from 1; the others are sent as they are."""
    return lambda number, block: changes[number](block) if number in changes else [block]


@pytest.mark.parametrize("lost", [1, 7, 11, 18, 30, 500, 2400])
def test_a_frame_that_is_cut_is_told_and_takes_no_other_with_it(lost: int) -> None:
    with MerlinEmulator(tamper=tampering({7: lambda block: [block[:-lost]]})) as emulator:
        got = exposed(emulator, detector_of(emulator))
        cut = emulator.block(7)[15:-lost]
    assert got.numbers == list(range(FRAMES))
    assert got.damaged == {6: cut}
    assert sorted(got.frames) == [number for number in range(FRAMES) if number != 6]


def test_a_block_that_is_short_by_its_own_word_is_damaged_too() -> None:
    with MerlinEmulator(tamper=tampering({7: lambda block: [prefixed(block[15:-2])]})) as emulator:
        got = exposed(emulator, detector_of(emulator))
    assert list(got.damaged) == [6]


def test_the_last_frame_is_told_though_it_is_cut_and_nothing_follows() -> None:
    with MerlinEmulator(tamper=tampering({FRAMES: lambda block: [block[:-500]]})) as emulator:
        got = exposed(emulator, detector_of(emulator, gap_timeout_s=0.3))
        assert got.damaged == {FRAMES - 1: emulator.block(FRAMES)[15:-500]}
    assert got.numbers == list(range(FRAMES))


@pytest.mark.timeout(30)  # Where it is waited for more bytes, that is for an hour.
def test_a_last_frame_that_ends_like_the_start_of_a_block_is_not_held_back() -> None:
    with MerlinEmulator(tamper=tampering({FRAMES: lambda block: [block[:-5] + b"MPX,0"]})) as emulator:
        got = exposed(emulator, detector_of(emulator, gap_timeout_s=3600.0))
    assert (got.numbers, got.damaged) == (list(range(FRAMES)), {})


def test_a_frame_with_bytes_behind_it_that_are_nobodys_is_doubted() -> None:
    with MerlinEmulator(tamper=tampering({7: lambda block: [block + b"xyz"]})) as emulator:
        got = exposed(emulator, detector_of(emulator))
        assert got.damaged == {6: emulator.block(7)[15:]}
    assert sorted(got.frames) == [number for number in range(FRAMES) if number != 6]


def test_frames_lost_twice_and_outside_are_handed_on_with_their_numbers() -> None:
    with MerlinEmulator() as emulator:
        outside = {1: lambda block: [block, block.replace(b"MQ1,000001", b"MQ1,000099")]}
        emulator.tamper = tampering({3: lambda block: [block, block], 5: lambda block: [], **outside})
        got = exposed(emulator, detector_of(emulator))
    assert got.numbers == [0, 98, 1, 2, 2, 3, *range(5, FRAMES)]
    assert got.damaged == {}


def test_garbage_and_other_counters_are_no_frames() -> None:
    def other_counter(block: bytes) -> list[bytes]:
        return [block, block.replace(b",0.000500,0,0,0,", b",0.000500,1,0,0,")]

    with MerlinEmulator(
        tamper=tampering({3: lambda block: [block, prefixed(b"HELLO"), block], 9: other_counter})
    ) as emulator:
        got = exposed(emulator, detector_of(emulator))
        np.testing.assert_array_equal(got.frames[8], emulator.frames[8])
    assert sorted(set(got.numbers)) == list(range(FRAMES))
    assert list(got.damaged) == [
        8
    ]  # what the other counter has does not pass for the frame; the intake keeps the first
    assert got.strays >= 1


SCHEDULES = st.dictionaries(
    st.integers(1, FRAMES),
    st.one_of(st.sampled_from(["drop", "twice"]), st.integers(1, 2432), st.binary(min_size=1, max_size=99)),
    max_size=12,
)


# Without a function's fixture: hypothesis runs one for all examples.
@settings(max_examples=25, deadline=None)
@given(SCHEDULES)
def test_whatever_becomes_of_frames_is_told_of_each(schedule: dict[int, str | int | bytes]) -> None:
    def tamper(number: int, block: bytes) -> list[bytes]:
        match schedule.get(number):
            case "drop":
                return []
            case "twice":
                return [block, block]
            case int(lost):
                return [block[:-lost]]
            case bytes(garbage):
                return [block, garbage]
        return [block]

    patched = pytest.MonkeyPatch()
    with patched.context() as patch, MerlinEmulator(tamper=tamper) as emulator:
        patch.setattr("devices.merlin.stream.QUIET_S", 0.02)
        patch.setattr("devices.merlin.stream.AFTER_LAST_S", 0.3)
        # The detector stands still after its last frame: what is missing then is not waited for longer.
        got = exposed(emulator, detector_of(emulator, gap_timeout_s=0.3))
        frames = emulator.frames
    dropped = {number - 1 for number, what in schedule.items() if what == "drop"}
    # Number and offset of a frame are in the first 17 of the 2432 bytes behind its prefix.
    cut = {number - 1 for number, what in schedule.items() if isinstance(what, int) and what <= 2432 - 17}
    nameless = {number - 1 for number, what in schedule.items() if isinstance(what, int)} - cut
    doubted = {number - 1 for number, what in schedule.items() if isinstance(what, bytes)}
    twice = {number - 1 for number, what in schedule.items() if what == "twice"}
    good = set(range(FRAMES)) - dropped - cut - nameless
    assert good - doubted <= set(got.frames) <= good
    assert set(got.damaged) | set(got.frames) == good | cut
    assert cut <= set(got.damaged) <= cut | doubted
    assert [number for number in range(FRAMES) if got.numbers.count(number) > 1] == sorted(twice)
    for number, frame in got.frames.items():
        np.testing.assert_array_equal(frame, frames[number])


def test_a_connection_that_is_lost_ends_the_frames_there_and_then() -> None:
    def cut_off(block: bytes) -> list[bytes]:
        raise ConnectionAbortedError

    with MerlinEmulator(tamper=tampering({30: cut_off})) as emulator:
        # Time-outs of an hour: that the connection is lost is seen without them.
        got = exposed(emulator, detector_of(emulator, gap_timeout_s=3600.0))
    assert got.numbers == list(range(29))


def test_a_frame_that_a_lost_connection_cut_is_kept_aside() -> None:
    emulator = MerlinEmulator()

    def cut_off(block: bytes) -> list[bytes]:
        emulator.send(block[:1000])
        raise ConnectionAbortedError

    emulator.tamper = tampering({30: cut_off})
    with emulator:
        got = exposed(emulator, detector_of(emulator, gap_timeout_s=3600.0))
        assert got.damaged == {29: emulator.block(30)[15:1000]}
    assert got.numbers == list(range(30))


def test_after_the_last_number_nothing_is_waited_for_long() -> None:
    clock = Clock()
    with MerlinEmulator(tamper=tampering({5: lambda block: []})) as emulator:
        detector = detector_of(emulator, gap_timeout_s=3600.0)
        detector.prepare(asked())
        with detector.source().open(clock) as frames:
            detector.arm()
            detector.trigger()
            numbers = []
            for batch in frames.batches():
                numbers += batch.indices
                clock.now_s += 0.0 if batch.chunks else 0.3
        detector.ensure_stopped()
        detector.control.close()
    assert numbers == [*range(4), *range(5, FRAMES)]
    assert clock.now_s < 100.0 + 2.0


def silent(frames: MerlinFrames, clock: Clock) -> None:
    """Follow a stream without frames, a second a batch."""
    for _batch in frames.batches():
        clock.now_s += 1.0


def test_silence_says_what_did_not_come() -> None:
    # The first whole second after the 5 s and the time of a frame.
    for armed, message in (
        (False, r"announced no acquisition within 6\.0 s \(0 other messages came\); is it started"),
        (True, r"announced the acquisition but sent no frame within 6\.0 s; did it get its trigger"),
    ):
        clock = Clock()
        with MerlinEmulator() as emulator:
            detector = detector_of(emulator)
            detector.prepare(asked())
            with detector.source().open(clock) as frames:
                if armed:
                    detector.arm()
                with pytest.raises(DeviceFault, match=message):
                    silent(frames, clock)
            detector.control.close()


def test_a_gap_ends_the_frames_with_what_came() -> None:
    clock = Clock()
    with MerlinEmulator() as emulator:
        detector = detector_of(emulator, trigger_by="position", gap_timeout_s=5.0)
        detector.prepare(asked())
        with detector.source().open(clock) as frames:
            detector.arm()
            emulator.pulse(9)
            numbers = []
            for batch in frames.batches():
                numbers += batch.indices
                clock.now_s += 0.0 if batch.chunks else 1.0
        detector.control.close()
    assert numbers == list(range(9))
    # An empty batch a second, the last frame's time included, and one more with the last figures.
    assert clock.now_s == pytest.approx(100.0 + 7.0, abs=1.0)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("Frames in Acquisition (Number)", "39", "Frames in Acquisition: the detector says 39, 40 was prepared"),
        ("Frames per Trigger (Number)", "1", "Frames per Trigger: the detector says 1, 40 was prepared"),
        ("Counter Depth (number)", "6", "Counter Depth: the detector says 6, 12 was prepared"),
    ],
)
def test_an_acquisition_that_is_announced_otherwise_is_refused(name: str, value: str, message: str) -> None:
    with MerlinEmulator() as emulator:
        emulator.header_changes = {name: value}
        with pytest.raises(DeviceFault, match=message):
            exposed(emulator, detector_of(emulator))


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (b"0064,0016", b"0016,0064", r"frame shape: the detector says \(64, 16\), \(16, 64\) was prepared"),
        (b"U16", b"U32", "kind of pixels: the detector says U32, U16 was prepared"),
        (b"ns,12,", b"ns,24,", "counter depth: the detector says 24, 12 was prepared"),
        (b"0500,0,0,0", b"0500,0,1,0", "colour mode: the detector says True, False was prepared"),
    ],
)
def test_frames_that_are_others_than_prepared_are_refused(old: bytes, new: bytes, message: str) -> None:
    emulator = MerlinEmulator(tamper=lambda _number, block: [block.replace(old, new)])
    with emulator, pytest.raises(DeviceFault, match=message):
        exposed(emulator, detector_of(emulator))


def test_packed_frames_of_several_chips_are_refused_with_the_setting() -> None:
    emulator = MerlinEmulator(tamper=lambda _number, block: [block.replace(b",00384,01,", b",00384,04,")])
    message = r"packed frames of 4 chips \(1x1\) cannot be read; set packed = false"
    with emulator, pytest.raises(DeviceFault, match=message):
        exposed(emulator, detector_of(emulator, packed=True))


def test_what_an_earlier_acquisition_left_is_read_away_before_ours() -> None:
    with MerlinEmulator() as earlier:
        earlier.make_frames()
        old = prefixed(earlier.header()) + earlier.block(1) + earlier.block(1)[:700]
    with MerlinEmulator() as emulator:
        emulator.left_over = old
        got = exposed(emulator, detector_of(emulator))
        np.testing.assert_array_equal([got.frames[number] for number in range(FRAMES)], emulator.frames)
    assert (got.numbers, got.strays) == (list(range(FRAMES)), 1)  # the frame that was cut is nobody's


def test_another_acquisition_ends_ours() -> None:
    with MerlinEmulator() as emulator:
        emulator.tamper = tampering({20: lambda block: [prefixed(emulator.header()), block]})
        got = exposed(emulator, detector_of(emulator, gap_timeout_s=3600.0))
    assert got.numbers == list(range(19))


def test_a_detector_that_does_not_stop_sending_is_not_armed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("devices.merlin.stream.DRAINED_WITHIN_S", 0.5)
    enough = threading.Event()
    with MerlinEmulator() as emulator:
        detector = detector_of(emulator)
        detector.prepare(asked())
        emulator.make_frames()

        def flood() -> None:
            while not enough.is_set():
                emulator.send(emulator.block(1))

        flooding = threading.Thread(target=flood)
        flooding.start()
        try:
            with pytest.raises(DeviceFault, match=r"sends frames on .* although nothing was started"):
                detector.source().open()
        finally:
            enough.set()
            flooding.join()
            detector.control.close()


def test_a_second_client_or_nobody_there_is_said() -> None:
    with MerlinEmulator() as emulator:
        detector = detector_of(emulator)
        detector.prepare(asked())
        spec = detector.source()
        detector.control.close()
    with pytest.raises(DeviceFault, match=f"data port 127.0.0.1:{spec.port} cannot be connected to: ConnectionRefused"):
        spec.open()
    with socket.create_server(("127.0.0.1", 0)) as refusing:
        threading.Thread(target=lambda: refusing.accept()[0].close()).start()
        spec = MerlinStream(**{**vars(spec), "port": refusing.getsockname()[1]})
        with pytest.raises(DeviceFault, match="closed the connection; does another client use it"):
            spec.open()


def spec_of(port: int, **changes: Any) -> MerlinStream:
    """How to receive 8 frames of 256 x 256, 6 bit."""
    there: dict[str, Any] = {
        "frames": 8,
        "detector_shape": (256, 256),
        "dtype": "uint8",
        "depth": 6,
        "packed": False,
    }
    there |= {"frames_per_trigger": 1, "first_frame_timeout_s": 10.0, "gap_timeout_s": 10.0}
    return MerlinStream("127.0.0.1", port, **{**there, **changes})


def test_frames_of_a_real_detector_are_read_as_from_its_file(recorded_data: Path, tmp_path: Path) -> None:
    recorded = recorded_data / "recorded_merlin_6bit" / "001_4x2_6bit.mib"
    blocks = np.frombuffer(recorded.read_bytes(), np.uint8).reshape(8, 65920)
    header = recorded.with_suffix(".hdr").read_bytes()
    with socket.create_server(("127.0.0.1", 0)) as server:
        spec = pickle.loads(pickle.dumps(spec_of(server.getsockname()[1], header_file=tmp_path / "header.txt")))
        with spec.open() as frames, server.accept()[0] as connection:
            sending = b"".join(prefixed(part) for part in (header, *(block.tobytes() for block in blocks)))
            threading.Thread(target=connection.sendall, args=(sending,)).start()
            got = followed(frames)
    np.testing.assert_array_equal(
        [got.frames[number] for number in range(8)], blocks[:, 384:].reshape(8, 256, 256)[:, ::-1]
    )
    assert (tmp_path / "header.txt").read_bytes() == header


@pytest.mark.parametrize("digits", [6, 7])
def test_numbers_beyond_six_digits_go_on_or_begin_anew(digits: int) -> None:
    last, shape = NUMBERS + 3, (1, 8)
    spec = {"frames": last, "detector_shape": shape, "dtype": "uint8"}
    numbers = [1, 2, 500_000, 999_998, 999_999, NUMBERS, NUMBERS + 1, NUMBERS + 3]
    with MerlinEmulator((1, 8)) as emulator:
        emulator.values["COUNTERDEPTH"] = "6"
        emulator.make_frames()
        block, header = emulator.block(1)[15:], emulator.header().replace(b"(Number):\t1", b"(Number):\t%d" % last, 1)
    server = socket.create_server(("127.0.0.1", 0))
    with server, spec_of(server.getsockname()[1], **spec).open() as frames, server.accept()[0] as connection:
        connection.sendall(prefixed(header))
        for number in numbers:
            written = str(number % 10**digits).zfill(6).encode()
            # A seventh digit takes its room from the padding, so that the pixels stay where they are.
            name, after, pixels = block[:4], block[10:384], block[384:]
            connection.sendall(prefixed(name + written + after[: 380 - len(written)] + pixels))
        connection.shutdown(socket.SHUT_WR)
        got = followed(frames)
    assert got.numbers == [number - 1 for number in numbers]
    assert got.damaged == {}


def test_memory_is_bounded_and_held_up_time_is_told() -> None:
    with MerlinEmulator() as emulator:
        detector = detector_of(emulator)
        detector.prepare(asked(frames=400))
        spec = MerlinStream(**{**vars(detector.source()), "queue_bytes": 20_000})
        with spec.open() as frames:
            detector.arm()
            detector.trigger()
            held_up_s, most = 0.0, 0.0
            for batch in frames.batches():
                held_up_s, most = held_up_s + batch.held_up_s, max(most, batch.queue_share)
        detector.ensure_stopped()
        detector.control.close()
    assert held_up_s > 0
    assert most == 1.0
