"""The checks that every driver has to pass: ours pass them, and a driver that lies is found out by the right one."""

from collections.abc import Iterable
from pathlib import Path

import pytest

from devices.conformance import CHECKS, Outcome, Subject, conform, phases
from devices.conformance.elsewhere import another_process_makes_it_safe
from devices.conformance.run import outcome_of
from devices.simplon.emulator import start_emulator
from devices.simplon.emulator.frames import SyntheticFrames
from devices.simplon.instrument import SimplonInstrument, SimplonSettings
from devices.simplon.rest import Simplon
from storage.documents import validate
from tests.devices.conforming import SERVED, behind_temscript, open_simulated, simulated, simulated_file
from tests.devices.emulator_world import EXPOSURE, SMALL
from tests.devices.lying_drivers import LIES, open_liar, open_lonely
from tests.devices.merlin_emulator import MerlinEmulator
from tests.devices.server_world import entries
from tests.devices.simulator_world import exposure as merlin_exposure
from tests.devices.simulator_world import raster
from tests.devices.temscript_server import made_ready, null_microscope, stand_in
from tests.devices.test_merlin_instrument import beside as merlin_beside
from tests.devices.test_merlin_instrument import file_of as merlin_file

HERE_CHECKS = [check for check in CHECKS if check is not another_process_makes_it_safe]
"""Those that the simulator can pass within one process."""
CHECKED_BY = {
    "column": ("column_",),
    "stage": ("stage_",),
    "gate": ("gate_",),
    "scan": ("scan_", "stopping_", "detector_"),
    "detector": ("detector_",),
}
DETECTOR_CHECKS = (
    phases.stopping_does_no_harm,
    phases.detector_goes_through_its_phases,
    phases.detector_is_not_armed_out_of_turn,
    phases.detector_refuses_what_it_cannot_do,
    phases.detector_snapshot_is_whole,
)
NAMES = ("opens", *(check.__name__ for check in CHECKS), "closes")
WITHOUT_DETECTOR = {name for name in NAMES if name.startswith(("scan_", "detector_"))}


def failed(outcomes: tuple[Outcome, ...]) -> list[str]:
    assert tuple(outcome.check for outcome in outcomes) == NAMES
    return [str(outcome) for outcome in outcomes if outcome.verdict == "failed"]


def left_out(outcomes: Iterable[Outcome]) -> set[str]:
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


def test_the_simulator_passes_all_but_the_one_that_needs_its_server(tmp_path: Path) -> None:
    subject = simulated(tmp_path)
    instrument = open_simulated(subject.file, tmp_path)
    outcomes = [outcome_of(check, subject, instrument) for check in HERE_CHECKS]
    assert [str(outcome) for outcome in outcomes if outcome.verdict == "failed"] == []


@pytest.mark.parametrize("name", sorted(LIES))
def test_a_driver_that_lies_is_found_out(tmp_path: Path, name: str) -> None:
    file = simulated_file().model_copy(update={"name": name})
    subject = simulated(tmp_path, "tests.devices.lying_drivers:open_liar", file=file)
    instrument = open_liar(file, tmp_path)
    outcomes = [outcome_of(check, subject, instrument) for check in HERE_CHECKS]
    found = [outcome.check for outcome in outcomes if outcome.verdict == "failed"]
    assert LIES[name][2] in found, outcomes
    words = next(outcome.words for outcome in outcomes if outcome.check == LIES[name][2])
    assert "assert" not in words
    # Of no other part anything is said that is not so.
    assert [check for check in found if not check.startswith(CHECKED_BY[LIES[name][0]])] == []


@pytest.mark.slow
def test_a_driver_for_one_process_alone_is_found_out(tmp_path: Path) -> None:
    subject = simulated(tmp_path, "tests.devices.lying_drivers:open_lonely")
    instrument = open_lonely(subject.file, tmp_path)
    outcome = outcome_of(another_process_makes_it_safe, subject, instrument)
    assert (outcome.verdict, "somebody else is connected" in outcome.words) == ("failed", True)


@pytest.mark.parametrize(
    ("driver", "words"),
    [
        ("nightbeam_no_such_module:open_instrument", "ModuleNotFoundError: No module named 'nightbeam_no_such_module'"),
        ("devices.simulator:no_such_function", "AttributeError"),
        ("tests.devices.test_registry:open_nothing", "opened a NoneType, no instrument"),
    ],
)
def test_a_driver_that_does_not_open_is_one_outcome(tmp_path: Path, driver: str, words: str) -> None:
    (outcome,) = conform(simulated(tmp_path, driver))
    assert (outcome.check, outcome.verdict) == ("opens", "failed")
    assert words in outcome.words


def test_what_may_not_be_done_is_not_done(tmp_path: Path) -> None:
    subject = simulated(tmp_path, may_unblank=False, may_close_valves=False, positions=None, exposure=None)
    instrument = open_simulated(subject.file, tmp_path)
    outcomes = [outcome_of(check, subject, instrument) for check in HERE_CHECKS]
    assert {"gate_lets_through_and_blanks", "gate_refuses_leases_that_are_none", "valves_close"} <= left_out(outcomes)
    events = {entry["event"] for entry in entries(tmp_path)}
    assert not events & {"unblank", "valves", "arm", "stage"}


def test_a_simplon_detector_passes_what_is_asked_of_a_detector(tmp_path: Path) -> None:
    other = simulated_file()
    file = other.model_copy(update={"facts": other.facts.model_copy(update={"detectors": (SMALL,)})})
    exposure = EXPOSURE.model_copy(update={"frames": 24})
    subject = Subject("devices.simplon:open_instrument", file, tmp_path, exposure=exposure)
    with start_emulator(source=SyntheticFrames(SMALL.shape)) as emulator:
        beside = {
            "host": "127.0.0.1",
            "rest_port": emulator.rest_port,
            "stream_port": emulator.stream_port,
            "trigger": "software",
            "column": {"driver": "simulator"},
        }
        settings = validate(beside, SimplonSettings, "settings")
        rest = Simplon(settings.host, settings.rest_port)
        instrument = SimplonInstrument(file, settings, rest, open_simulated(other, tmp_path))
        instrument.simplon.recover()
        outcomes = [outcome_of(check, subject, instrument) for check in DETECTOR_CHECKS]
        instrument.close()
    assert [str(outcome) for outcome in outcomes if outcome.verdict != "passed"] == []


@pytest.mark.slow  # stopped before a frame has come, its driver waits 5 s each time
def test_a_merlin_passes_what_is_asked_of_a_detector(tmp_path: Path) -> None:
    column = {"driver": "simulator", "settings": {"seed": 9, "areas": {}}}
    exposure = merlin_exposure(raster((4, 6)))
    subject = Subject("devices.merlin:open_instrument", merlin_file(), tmp_path, exposure=exposure)
    with MerlinEmulator((32, 32)) as emulator:
        instrument = merlin_beside(emulator, tmp_path, column=column)
        outcomes = [outcome_of(check, subject, instrument) for check in DETECTOR_CHECKS]
        instrument.close()
    assert [str(outcome) for outcome in outcomes if outcome.verdict != "passed"] == []
