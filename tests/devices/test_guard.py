"""The owner's side: who is refused, what is said, and the watchdog's own words; over pipes, without processes."""

import json
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from devices import guard, kennel, watchdog
from devices.guard import Unwatched, WatchedGate, guarding
from devices.heartbeat import BEAT_S, LATE_S, Silence
from devices.lease import owned
from devices.protocols import Instrument
from devices.safety import BLANK, SHUT
from devices.safety_log import FILE
from stem4d.errors import DeviceFault
from stem4d.instrument import InstrumentFile
from tests.devices.server_world import entries, folder_of, now_lease, session
from tests.devices.simulator_world import Clock, instrument_file, opened

LASTS_S = 0.7
"""Of a lease that is to run out: longer than a busy machine takes to show it."""


def written(home: Path, file: InstrumentFile) -> Path:
    path = home / "instrument.json"
    path.write_text(file.model_dump_json())
    return path


def never() -> Instrument:
    raise AssertionError("opened")


def test_nothing_is_let_through_before_the_watchdog_reaches_the_instrument_and_its_end_is_silent(
    tmp_path: Path,
) -> None:
    with session(tmp_path) as owner:
        path = written(tmp_path, instrument_file())
        with guarding(instrument_file(), path, tmp_path, lambda: session_of(tmp_path)) as watched:
            watched.begin(owner)
            gate = WatchedGate(owner.gate, watched)
            gate.unblank(now_lease())
            assert gate.is_blanked() is False
            gate.blank()
        assert owner.gate.is_blanked() is True
        # It has not touched the session.
        assert [one["event"] for one in entries(tmp_path)] == ["open", "unblank", "blank"]
    assert not (folder_of(tmp_path) / FILE).exists()


def test_a_lease_that_runs_out_takes_the_beam_from_an_owner_that_only_beats(tmp_path: Path) -> None:
    with session(tmp_path) as owner:
        path = written(tmp_path, instrument_file())
        with guarding(instrument_file(), path, tmp_path, lambda: session_of(tmp_path)) as watched:
            watched.begin(owner)
            gate = WatchedGate(owner.gate, watched)
            gate.unblank(now_lease())
            gate.blank()
            # One that was blanked has no lease that could run out, and no progress brings it back.
            watched.goes_on(0.0)
            gate.unblank(now_lease(token=2, lasts_s=LASTS_S))
            assert blanked_times(tmp_path, 2)
            assert "the dose lease ran out" in watched.lost
            with pytest.raises(Unwatched, match="ran out"):
                gate.unblank(now_lease(token=3))
            # The next run starts anew.
            assert "ran out" in watched.ready()
            gate.unblank(now_lease(token=3))
            gate.blank()
    reports = [json.loads(line) for line in (folder_of(tmp_path) / FILE).read_text().splitlines()]
    assert [(one["by"], one["beam_off"]) for one in reports] == [("owner", True)]


@pytest.mark.slow
def test_progress_extends_the_lease(tmp_path: Path) -> None:
    with session(tmp_path) as owner:
        path = written(tmp_path, instrument_file())
        with guarding(instrument_file(), path, tmp_path, lambda: session_of(tmp_path)) as watched:
            watched.begin(owner)
            gate = WatchedGate(owner.gate, watched)
            gate.unblank(now_lease(lasts_s=LASTS_S))
            watched.goes_on(60.0)
            # Longer than the lease's own time and a beat.
            assert not blanked_times(tmp_path, 1, within_s=LASTS_S + 1.5 * BEAT_S)
            gate.blank()


def blanked_times(home: Path, times: int, within_s: float = 5.0) -> bool:
    """Whether the beam has been blanked so often within a time, as the column has it."""
    deadline = time.monotonic() + within_s
    while sum(one["event"] == "blank" for one in entries(home)) < times:
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def session_of(home: Path) -> Instrument:
    from devices.simulator import open_instrument

    return open_instrument(instrument_file(), home)


def test_a_driver_that_does_not_say_who_can_make_it_safe_is_refused(tmp_path: Path) -> None:
    # The simulator within this process says nothing: it is no `Watchable`.
    with (
        pytest.raises(Unwatched, match="does not say that a second process can make the instrument safe"),
        guarding(instrument_file(), written(tmp_path, instrument_file()), tmp_path, never) as watched,
    ):
        watched.begin(opened(tmp_path))


@pytest.mark.usefixtures("real_watchdogs")
def test_a_watchdog_that_cannot_read_the_instruments_file_is_a_refusal_with_its_reason(tmp_path: Path) -> None:
    with session(tmp_path) as owner:
        absent = tmp_path / "absent.toml"
        with guarding(instrument_file(), absent, tmp_path, lambda: session_of(tmp_path)) as watched:
            watched.begin(owner)
            with pytest.raises(Unwatched, match=r"cannot do its work.*absent\.toml"):
                watched.ready()
            with pytest.raises(Unwatched, match="test-stem"):
                WatchedGate(owner.gate, watched).unblank(now_lease())
        assert owner.gate.is_blanked() is True


def test_a_system_that_starts_no_process_is_a_refusal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guard, "spawn", kennel.spawn)
    monkeypatch.setattr(kennel.sys, "executable", str(tmp_path / "no-python"))
    with (
        pytest.raises(Unwatched, match="could not be started"),
        guarding(instrument_file(), tmp_path / "any.toml", tmp_path, never),
    ):
        pass


class Followed:
    """A watchdog in a thread whose owner is the test."""

    def __init__(self, folder: Path, open_it: Callable[[], Instrument]) -> None:
        self.said: list[tuple[str, Any]] = []
        heard, self.words = os.pipe()

        def say(kind: str, content: object) -> None:
            self.said.append((kind, content))

        self._thread = threading.Thread(target=watchdog.watch, args=(heard, say, open_it, folder), daemon=True)
        self._thread.start()

    def tell(self, *words: str) -> None:
        os.write(self.words, "".join(f"{word}\n" for word in words).encode())

    def ended(self, within_s: float = 10.0) -> bool:
        self._thread.join(within_s)
        return not self._thread.is_alive()


def test_an_owner_that_never_had_the_instrument_needs_nobody(tmp_path: Path) -> None:
    one = Followed(tmp_path, never)
    os.close(one.words)
    assert one.ended()
    two = Followed(tmp_path, never)
    two.tell("done")
    assert two.ended()
    os.close(two.words)
    assert (one.said, two.said) == ([], [])


def test_a_word_that_comes_in_pieces_is_one_word_and_done_is_silent(tmp_path: Path) -> None:
    instrument = opened(tmp_path)
    one = Followed(tmp_path, lambda: instrument)
    for piece in ("op", "en\nbe", "at\nlook\ndo", "ne\n"):
        os.write(one.words, piece.encode())
    assert one.ended()
    os.close(one.words)
    assert [kind for kind, _content in one.said] == ["ready", "beat", "seen"]
    assert not (tmp_path / FILE).exists()


def test_a_blanker_that_does_not_work_has_the_valves_closed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    instrument = opened(tmp_path)

    def stuck() -> None:
        raise DeviceFault("the blanker does not answer to its plates")

    monkeypatch.setattr(instrument.gate, "blank", stuck)
    monkeypatch.setattr(watchdog, "GIVE_UP_S", 0.0)
    one = Followed(tmp_path, lambda: instrument)
    one.tell("open")
    os.close(one.words)
    assert one.ended()
    (report,) = [json.loads(line) for line in (tmp_path / FILE).read_text().splitlines()]
    assert [step["name"] for step in report["steps"]][:2] == [BLANK, SHUT]
    assert report["beam_off"] is True
    assert [each["event"] for each in entries(tmp_path)][-1] == "valves"


def test_it_tries_again_until_it_worked_or_a_new_owner_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watchdog, "AGAIN_S", 0.01)
    instrument, tries = opened(tmp_path), 0

    def stop() -> None:
        nonlocal tries
        tries += 1
        if tries < 4:
            raise DeviceFault("the line is down")

    monkeypatch.setattr(instrument.detector, "ensure_stopped", stop)
    one = Followed(tmp_path, lambda: instrument)
    one.tell("open")
    os.close(one.words)
    assert one.ended()
    assert tries == 4
    tries = -(10**6)
    with owned("test-stem", tmp_path):
        other = Followed(tmp_path, lambda: instrument)
        other.tell("open")
        os.close(other.words)
        assert other.ended()
    assert tries == 1 - 10**6


def test_silence_counts_only_while_this_process_runs() -> None:
    clock = Clock()
    silence = Silence(clock)
    for _beat in range(4):
        clock.sleep(BEAT_S)
        assert not silence.late()
    clock.sleep(BEAT_S)
    assert silence.late()
    silence.heard()
    clock.sleep(100 * LATE_S)
    assert not silence.late()


def test_a_watchdog_starts_without_what_is_heavy() -> None:
    import subprocess
    import sys

    listing = "import sys, devices.watchdog, devices.simulator; print(*{m.partition('.')[0] for m in sys.modules})"
    began_s = time.monotonic()
    done = subprocess.run([sys.executable, "-c", listing], capture_output=True, text=True, check=True, timeout=60)
    assert not {"numba", "scipy", "h5py", "prefect", "sqlalchemy", "typer"} & set(done.stdout.split())
    assert time.monotonic() - began_s < 30
