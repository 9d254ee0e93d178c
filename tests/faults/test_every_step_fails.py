"""Every step of a run and every call of its instrument is made to fail once: the beam is off within 2 s of it."""

import shutil
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from devices.simulator import remote
from flows import run as run_module
from flows.calibrate import calibrate_kinds
from flows.run import run_plan
from stem4d.errors import DeviceFault, NightbeamError
from stem4d.night import TargetState
from tasks.lab import Lab
from tests.faults.kill_trial import KINDS
from tests.flows.exposure_world import whole_run
from tests.flows.night_world import column_log, small, small_lab

BEAM_OFF_S = 2.0
STAGES = (
    "open_run", "validate", "prepare", "calibrate", "expose", "check_quality", "analyse", "close_run", "report_run",
)  # fmt: skip
CALLS = (
    "RemoteStage.go_to", "RemoteColumn.prepare", "RemoteColumn.snapshot", "RemoteScan.prepare", "RemoteScan.start",
    "RemoteScan.wait", "RemoteScan.ensure_stopped", "RemoteDetector.prepare", "RemoteDetector.source",
    "RemoteDetector.arm", "RemoteDetector.ensure_stopped", "RemoteGate.unblank", "RemoteGate.blank",
    "RemoteGate.is_blanked", "RemoteGate.newest_token", "RemoteInstrument.now_s",
)  # fmt: skip


@pytest.fixture(scope="module")
def calibrated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home whose calibrations are known."""
    home = tmp_path_factory.mktemp("steps") / "home"
    with small_lab(home) as opened:
        assert calibrate_kinds(opened, PLAN, KINDS).complete
    return home


PLAN = small("1_overview.yaml", 16)


class Failing:
    """Fails the first time that it is called while it is to."""

    def __init__(self, function: Callable[..., Any], what: str, kind: type[Exception]) -> None:
        self._function, self._what, self._kind = function, what, kind
        self.failed: list[datetime] = []

    def __call__(self, *arguments: Any) -> Any:
        if not self.failed:
            self.failed.append(datetime.now(UTC))
            raise self._kind(f"{self._what} was made to fail")
        return self._function(*arguments)


def on_after_s(home: Path, failed: datetime) -> float:
    """How long the beam that was on at a failure stayed on [s]; it ends blanked."""
    on, longest_s = False, 0.0
    for one in column_log(home):
        if one["event"] == "unblank":
            on = True
        elif one["event"] in ("blank", "valves"):
            longest_s = max(longest_s, (datetime.fromisoformat(one["wall"]) - failed).total_seconds() if on else 0.0)
            on = False
    assert not on
    return longest_s


def how_it_ended(opened: Lab) -> tuple[TargetState, str]:
    """Of a run, which may also end by an error; that is no other than the one that was made."""
    try:
        outcome = run_plan(opened, PLAN, with_prefect=False)
    except (NightbeamError, ZeroDivisionError) as error:
        return TargetState.FAILED, str(error)
    return outcome.state, outcome.reason


def test_a_call_that_fails_in_a_pass_without_calibrations(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with small_lab(tmp_path) as opened:
        failing = Failing(remote.RemoteScan.start, "the scan's start", DeviceFault)
        monkeypatch.setattr(remote.RemoteScan, "start", lambda *arguments: failing(*arguments))
        with pytest.raises(DeviceFault, match="the scan's start was made to fail"):
            whole_run(opened, PLAN)
        assert opened.instrument.gate.is_blanked()
    (failed,) = failing.failed
    assert on_after_s(tmp_path, failed) < BEAM_OFF_S


@pytest.mark.slow
@pytest.mark.parametrize("kind", [DeviceFault, ZeroDivisionError])
@pytest.mark.parametrize("name", STAGES)
def test_a_stage_that_fails(
    calibrated: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, kind: type[Exception]
) -> None:
    home = tmp_path / "home"
    shutil.copytree(calibrated, home)
    failing = Failing(getattr(run_module, name).fn, name, kind)
    monkeypatch.setattr(run_module, name, SimpleNamespace(fn=failing))
    with small_lab(home) as opened:
        state, words = how_it_ended(opened)
        assert state is TargetState.FAILED
        assert f"{name} was made to fail" in words
        assert opened.instrument.gate.is_blanked()
    (failed,) = failing.failed
    assert on_after_s(home, failed) < BEAM_OFF_S


@pytest.mark.slow
@pytest.mark.parametrize("name", CALLS)
def test_a_call_of_the_instrument_that_fails(
    calibrated: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    home = tmp_path / "home"
    shutil.copytree(calibrated, home)
    part, method = name.split(".")
    with small_lab(home) as opened:
        failing = Failing(getattr(getattr(remote, part), method), name, DeviceFault)
        monkeypatch.setattr(getattr(remote, part), method, lambda *arguments: failing(*arguments))
        state, words = how_it_ended(opened)
        assert opened.instrument.gate.is_blanked()
    (failed,) = failing.failed
    assert on_after_s(home, failed) < BEAM_OFF_S
    # The first of several errors is the one that is told.
    assert state is not TargetState.FAILED or f"{name} was made to fail" in words
