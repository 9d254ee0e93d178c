"""Drivers by entry point: found, broken, unknown, ambiguous."""

import tomllib
from importlib.metadata import EntryPoint, EntryPoints
from pathlib import Path

import pytest

from devices import registry
from devices.protocols import Instrument
from devices.registry import GROUP, drivers, open_instrument
from stem4d.errors import BadInput, DeviceFault
from stem4d.instrument import InstrumentFile
from tests.devices.simulator_world import instrument_file

ROOT = Path(__file__).parents[2]
OURS = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["entry-points"][GROUP]
STRANGE = {
    "absent": "nightbeam_no_such_module:open_instrument",
    "incomplete": "devices.simulator:no_such_function",
    "no-function": "devices.registry:GROUP",
    "no-instrument": "tests.devices.test_registry:open_nothing",
}


def open_nothing(file: InstrumentFile, home: Path) -> None:
    """A driver that opens nothing."""


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The entry points of pyproject.toml and some strange ones, whatever is installed."""
    points = EntryPoints(EntryPoint(name, value, GROUP) for name, value in {**OURS, **STRANGE}.items())
    monkeypatch.setattr(registry, "entry_points", lambda group: points.select(group=group))


@pytest.mark.usefixtures("installed")
def test_our_drivers_can_be_used_and_broken_ones_say_why() -> None:
    found = {driver.name: driver.broken for driver in drivers()}
    assert found["simulator"] == found["replay"] == found["simplon"] == found["merlin"] == found["temscript"] == ""
    assert "nightbeam_no_such_module" in found["absent"]
    assert "no_such_function" in found["incomplete"]
    assert found["no-function"] == "devices.registry:GROUP is not a function"


@pytest.mark.usefixtures("installed")
def test_an_instrument_opens_by_its_drivers_name(tmp_path: Path) -> None:
    instrument = open_instrument(instrument_file(), tmp_path)
    assert isinstance(instrument, Instrument)
    assert instrument.name == "test-stem"
    instrument.close()


@pytest.mark.usefixtures("installed")
def test_an_unknown_driver_is_refused_with_the_known_ones_closest_first(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"driver: got 'simulater'; known drivers are simulator, .*replay"):
        open_instrument(instrument_file("simulater"), tmp_path)


@pytest.mark.usefixtures("installed")
@pytest.mark.parametrize("name", sorted(STRANGE))
def test_a_broken_driver_is_a_fault_that_names_it(tmp_path: Path, name: str) -> None:
    with pytest.raises(DeviceFault, match=f"the driver {name} "):
        open_instrument(instrument_file(name), tmp_path)


def test_two_drivers_of_one_name_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    points = EntryPoints(EntryPoint("simulator", value, GROUP) for value in ("one:open", "two:open"))
    monkeypatch.setattr(registry, "entry_points", lambda group: points.select(group=group))
    with pytest.raises(BadInput, match="one:open of unknown distribution and two:open"):
        open_instrument(instrument_file(), tmp_path)


def test_nothing_installed_says_how_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "entry_points", lambda group: EntryPoints())
    assert drivers() == ()
    with pytest.raises(BadInput, match=r"no driver is installed.*make \.venv"):
        open_instrument(instrument_file(), tmp_path)
