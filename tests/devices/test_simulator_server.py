"""The simulated instrument through its server: the same values, errors and frames as within one process."""

import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from devices.acquire import AcquisitionJob
from devices.protocols import Instrument
from devices.safety import SafeLevel, make_safe
from devices.simulator import open_instrument, wire
from devices.simulator.faults import BeamTruth, DetectorTruth, ProjectorTruth, ScanTruth
from devices.simulator.remote import AHEAD, RemoteInstrument, RemoteSource
from devices.simulator.settings import Area, Truth
from devices.simulator.source import FRAMES_TOGETHER
from devices.simulator.stage import LensTruth, StageTruth
from devices.worker import acquire_in_child
from stem4d.accumulate import AccumulatorSpec
from stem4d.errors import BadInput, DeviceFault, DoseRefused, LimitViolation, NightbeamError
from storage.read import open_frames
from storage.spec import FileSpec
from tests.devices.server_world import address_of, ended, now_lease, session
from tests.devices.simulator_world import (
    DELTA_MRAD,
    column,
    exposure,
    instrument_file,
    opened,
    prepared,
    prepared_anywhere,
    raster,
    received,
    run,
)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A home whose server stays for all tests of this file."""
    home = tmp_path_factory.mktemp("served")
    with session(home) as keeper:
        assert keeper.gate.is_blanked()
        yield home
        pid = address_of(home).pid
    assert ended(pid)


@pytest.fixture
def instrument(home: Path) -> Iterator[RemoteInstrument]:
    with session(home) as one:
        yield one


def test_values_come_back_as_they_were_sent(instrument: RemoteInstrument, tmp_path: Path) -> None:
    assert isinstance(instrument, Instrument)
    here = opened(tmp_path)
    asked = column(defocus_nm=-7.123456789012345, descan_mrad_per_nm=((0.1, 0.2), (0.3, 1e-300)))
    assert instrument.column.prepare(asked) == here.column.prepare(asked) == asked
    assert instrument.scan.prepare(raster()) == raster()
    assert instrument.detector.prepare(exposure(raster())) == exposure(raster())
    assert instrument.detector.facts == here.detector.facts
    ours, theirs = ({one.name: (one.value, one.unit, one.source) for one in i.column.snapshot()} for i in
                    (here, instrument))  # fmt: skip
    assert ours == theirs
    assert instrument.column.snapshot()[0].read_at.tzinfo is not None
    assert instrument.stage.go_to("sample") == instrument.stage.position() == "sample"


@pytest.mark.parametrize(
    ("ask", "kind"),
    [
        (lambda i: i.column.prepare(column(defocus_nm=20.1)), LimitViolation),
        (lambda i: i.detector.prepare(exposure(raster(), shape=(32, 24))), LimitViolation),
        (lambda i: i.stage.go_to("nowhere \u202e"), LimitViolation),
        (lambda i: i.pause(-1.0), BadInput),
        (lambda i: i.pause(float("nan")), BadInput),
        (lambda i: prepared_anywhere(i, scan=raster(), frames=23), DeviceFault),
        (lambda i: i.gate.unblank(now_lease(token=-1)), DoseRefused),
    ],
)
def test_errors_come_back_as_they_were_raised(
    instrument: RemoteInstrument, tmp_path: Path, ask: Callable[[Instrument], object], kind: type[NightbeamError]
) -> None:
    raised = []
    for one in (opened(tmp_path), instrument):
        with pytest.raises(kind) as caught:
            ask(one)
        raised.append(caught.value)
    assert str(raised[0]) == str(raised[1])
    fields = [{name: repr(value) for name, value in vars(error).items()} for error in raised]
    assert fields[0] == fields[1]


def test_an_error_has_all_its_fields_on_the_other_side() -> None:
    for error in (
        BadInput(field="a.b", value=(1, 2.5), limit="no", unit="px", remedy="Do"),
        BadInput(field="a.b", value=np.float64(2.5), limit="no"),
        LimitViolation(device="d", setting="s", asked=None, limit="x", unit="nm"),
        DoseRefused("too much"),
        DeviceFault("broken"),
    ):
        again = wire.unpack_error(wire.pack_error(error))
        assert type(again) is type(error)
        assert vars(again) == vars(error)
    assert "ZeroDivisionError" in str(wire.unpack_error(wire.pack_error(ZeroDivisionError("by zero"))))


def test_leases_run_out_on_the_clock_that_all_processes_share(instrument: RemoteInstrument) -> None:
    instrument.gate.unblank(now_lease())
    assert instrument.gate.is_blanked() is False
    instrument.gate.blank()
    with pytest.raises(DoseRefused, match="expired"):
        instrument.gate.unblank(now_lease(lasts_s=0.0))
    assert instrument.gate.is_blanked() is True


def test_a_second_client_sees_and_stops_the_first(home: Path, instrument: RemoteInstrument) -> None:
    source = prepared_anywhere(instrument)
    instrument.detector.arm()
    instrument.gate.unblank(now_lease(token=5))
    instrument.scan.start()
    with session(home) as watchdog:
        assert watchdog.gate.is_blanked() is False
        assert make_safe(watchdog, SafeLevel.SHELTER, "test").safe
        assert instrument.gate.is_blanked() is True
        with pytest.raises(DeviceFault, match="no raster runs"):
            instrument.scan.wait()
        with pytest.raises(DeviceFault, match="valves are closed"):
            instrument.gate.unblank(now_lease(token=5))
        with pytest.raises(DoseRefused):
            watchdog.gate.unblank(now_lease(token=4))
        assert len(received(source)) == 0
    # The watchdog has ended the session; a new one opens the valves.
    with session(home) as next_one:
        next_one.gate.unblank(now_lease(token=5))


LARGE = raster((64, 64), step_nm=0.05)


@pytest.mark.parametrize("what", ["blank", "stop"])
def test_anybody_ends_beam_or_scan_while_frames_stream(home: Path, instrument: RemoteInstrument, what: str) -> None:
    source = prepared_anywhere(instrument, scan=LARGE)
    instrument.detector.arm()
    instrument.gate.unblank(now_lease(token=5))
    instrument.scan.start()
    with session(home) as watchdog, source.open() as frames:
        coming = frames.batches()
        first = next(coming).frames
        if what == "blank":
            watchdog.gate.blank()
        else:
            watchdog.scan.ensure_stopped()
        # After a stop there may be nothing more, where no second batch had been made.
        counts = np.concatenate([first, *(batch.frames for batch in coming)]).sum((1, 2))
    lit = int((counts > 0).sum())
    # What was made ahead, and the batch that was being made.
    assert FRAMES_TOGETHER <= lit <= (AHEAD + 2) * FRAMES_TOGETHER
    assert len(counts) == (4096 if what == "blank" else lit)
    assert (counts[lit:] == 0).all()


def test_a_slow_receiver_slows_the_simulation(instrument: RemoteInstrument) -> None:
    source = prepared_anywhere(instrument, scan=LARGE)
    began_s = instrument.now_s()
    instrument.detector.arm()
    instrument.scan.start()
    with source.open() as frames:
        coming = frames.batches()
        next(coming)
        # Until the server has made all that it may, and long enough to see that it makes no more.
        deadline = time.monotonic() + 5
        while (reached_s := instrument.now_s() - began_s) < 0.999 * (
            AHEAD * 0.00645 + 0.0064
        ) and time.monotonic() < deadline:
            pass
        reached_s = max(instrument.now_s() - began_s for _ in range(200))
    # A row of 64 frames takes 6.45 ms; one is here, AHEAD are on their way, the last without its flyback.
    assert reached_s == pytest.approx(AHEAD * 0.00645 + 0.0064)
    instrument.scan.ensure_stopped()


def test_frames_are_those_of_one_process_in_any_process(instrument: RemoteInstrument, tmp_path: Path) -> None:
    source = prepared_anywhere(instrument, position="sample")
    assert isinstance(source, RemoteSource)
    file = FileSpec(tmp_path / "pass1.h5", (4, 6), (32, 32), source.dtype, 0.1, DELTA_MRAD, 4095, reserve_bytes=0)
    job = AcquisitionJob(
        source, file, AccumulatorSpec(detector_shape=(32, 32), dtype=source.dtype, full_scale=4095, detectors=())
    )
    result = acquire_in_child(job, lambda: run(instrument, source, now_lease(5)), lambda progress: None)
    assert result.frames_received == 24
    with open_frames(result.receipt.path) as recorded:
        written = np.concatenate([frames for _, frames in recorded.batches()])
    np.testing.assert_array_equal(written, received(source))
    here = opened(tmp_path / "home")
    same = prepared(here, position="sample")
    while same.run.number < source.run:
        same = prepared(here, position="sample")
    run(here, same)
    np.testing.assert_array_equal(written, received(same))
    prepared_anywhere(instrument)
    with pytest.raises(DeviceFault, match=f"frames of run {source.run} are gone"):
        source.open()


def test_an_interrupted_question_takes_no_answer_from_the_next(instrument: RemoteInstrument) -> None:
    class Interrupt(Exception):
        pass

    def interrupt(*_args: object) -> None:
        raise Interrupt

    # Not the alarm: the time limit of a test is made with it.
    before = signal.signal(signal.SIGUSR1, interrupt)
    interrupted = 0
    instrument.stage.go_to("sample")
    try:
        for delay_us in range(1, 2000, 20):
            timer = threading.Timer(delay_us * 1e-6, os.kill, (os.getpid(), signal.SIGUSR1))
            try:
                timer.start()
                while True:
                    instrument.stage.go_to("sample")
            except Interrupt:
                interrupted += 1
            timer.join()
            assert instrument.gate.is_blanked() is True
            assert instrument.stage.position() == "sample"
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert interrupted == 100


def test_no_message_names_the_truth(home: Path, instrument: RemoteInstrument, monkeypatch: pytest.MonkeyPatch) -> None:
    texts: list[str] = []
    receive = wire.Link.receive

    def overheard(link: wire.Link) -> tuple[dict[str, Any], bytes]:
        head, body = receive(link)
        texts.append(f"{head} {body!r}")
        return head, body

    monkeypatch.setattr(wire.Link, "receive", overheard)
    source = prepared_anywhere(instrument, position="sample")
    run(instrument, source, now_lease(5))
    received(source)
    assert instrument.column.snapshot()
    assert instrument.detector.facts
    with pytest.raises(LimitViolation):
        instrument.stage.go_to("nowhere")
    assert len(texts) > 10
    # Names that facts and commands have too say nothing; nobody but the truth has the others.
    groups = (Truth, Area, ScanTruth, ProjectorTruth, DetectorTruth, BeamTruth, StageTruth, LensTruth)
    plain = {
        "scan",
        "stage",
        "detector",
        "beam",
        "kind",
        "seed",
        "specimen",
        "aberrations",
        "areas",
        "speed",
        "dead_time_us",
        "wraps",
    }
    hidden = {name for group in groups for name in group.model_fields} - plain
    assert len(hidden) > 40
    assert [text for text in texts if any(name in text for name in hidden)] == []


def test_strangers_are_turned_away_and_the_server_goes_on(home: Path, instrument: RemoteInstrument) -> None:
    address = address_of(home)
    for said in (b"", b"GET / HTTP/1.1\r\n\r\n" * 10, wire.HEADER.pack(10, 1 << 62) + b"x" * 10):
        with socket.create_connection(("127.0.0.1", address.port), timeout=5) as stranger:
            heard = stranger.recv(4096)
            with suppress(OSError):  # the server may have had enough already
                stranger.sendall(said)
                stranger.shutdown(socket.SHUT_WR)
                while part := stranger.recv(4096):
                    heard += part
        assert b"challenge" in heard
        assert address.key.encode() not in heard
        assert b"answer" not in heard
    link = wire.Link(socket.create_connection(("127.0.0.1", address.port), timeout=5), 5)
    with pytest.raises(OSError, match=r"gone|reset"):
        wire.show_key(link, "0" * 64)
    link.close()
    assert instrument.gate.is_blanked()


def test_the_key_is_for_this_user_alone(home: Path) -> None:
    assert (home / "instruments" / "test-stem" / wire.SERVER_FILE).stat().st_mode & 0o777 == 0o600


def test_a_killed_client_leaves_the_instrument_as_it_was(home: Path, instrument: RemoteInstrument) -> None:
    killed = open_instrument(instrument_file(), home)
    prepared_anywhere(killed)
    killed.detector.arm()
    killed.gate.unblank(now_lease(5))
    killed.scan.start()
    # All that a kill -9 leaves of a client is a closed connection; tests/flows/test_interrupted.py kills a real one.
    killed._line.close()
    assert instrument.gate.is_blanked() is False
    with pytest.raises(DeviceFault, match="while a raster runs"):
        instrument.scan.prepare(raster())
    assert make_safe(instrument, SafeLevel.PARK, "a session begins").safe
    assert instrument.gate.is_blanked() is True
    assert instrument.scan.prepare(raster()) == raster()
