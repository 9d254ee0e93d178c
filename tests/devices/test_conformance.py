"""The checks that every driver has to pass: ours pass them, and a driver that lies is found out by the right one."""

from pathlib import Path

import pytest

from devices.conformance import CHECKS, Outcome, conform
from devices.conformance.elsewhere import another_process_makes_it_safe
from tests.devices.conforming import SERVED, behind_temscript, simulated
from tests.devices.temscript_server import made_ready, null_microscope, stand_in

NAMES = ("opens", *(check.__name__ for check in CHECKS), "closes")
WITHOUT_DETECTOR = {name for name in NAMES if name.startswith(("scan_", "detector_"))}


def failed(outcomes: tuple[Outcome, ...]) -> list[str]:
    assert tuple(outcome.check for outcome in outcomes) == NAMES
    return [str(outcome) for outcome in outcomes if outcome.verdict == "failed"]


def left_out(outcomes: tuple[Outcome, ...]) -> set[str]:
    return {outcome.check for outcome in outcomes if outcome.verdict == "not applicable"}


@pytest.mark.slow
def test_the_simulator_passes_them(tmp_path: Path) -> None:
    outcomes = conform(simulated(tmp_path, SERVED))
    assert failed(outcomes) == []
    assert left_out(outcomes) == {"detector_snapshot_is_whole"}, "its detectors do not tell their settings"


@pytest.mark.parametrize("null", [False, pytest.param(True, marks=[pytest.mark.slow, pytest.mark.timeout(600)])])
def test_temscripts_column_passes_them(tmp_path: Path, null: bool) -> None:
    with null_microscope() if null else stand_in() as server:
        made_ready(server)
        outcomes = conform(behind_temscript(server.port, tmp_path))
    assert failed(outcomes) == []
    assert left_out(outcomes) == WITHOUT_DETECTOR
