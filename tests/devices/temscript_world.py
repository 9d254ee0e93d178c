"""An instrument file for temscript's server, and the instrument on it, for tests."""

from pathlib import Path
from typing import Any

from devices.protocols import ColumnSetting
from devices.temscript.instrument import TemscriptInstrument, open_instrument
from stem4d.instrument import InstrumentFile
from stem4d.plan import Optics
from tests.devices.simulator_world import Clock, instrument_file

STAGE = {
    "x_um": {"lowest": -2000.0, "highest": 2000.0},
    "y_um": {"lowest": -900.0, "highest": 900.0},
    "z_um": {"lowest": -250.0, "highest": 250.0},
    "alpha_deg": {"lowest": -29.0, "highest": 29.0},
    "backlash_um": 2.0,
}
"""Along x wider than the Null microscope's own ± 1 mm."""


def file_of(port: int, facts: dict[str, Any] | None = None, **changes: Any) -> InstrumentFile:
    """The instrument of `simulator_world` with coils, stage and the Null microscope's mode."""
    settings = {
        "host": "127.0.0.1",
        "port": port,
        "instrument_mode": "TEM",
        "spots": [{"index": 3, "probe_current_pa": 50.0}, {"index": 6, "probe_current_pa": 10.0}],
        "camera_lengths": [{"index": 1, "camera_length_mm": 100.0}, {"index": 2, "camera_length_mm": 200.0}],
        "focus_positive": "overfocus",
        "diffraction_shift_mrad": {"lowest": -20.0, "highest": 20.0},
        "stigmator_per_nm": [[0.01, 0.0], [0.0, 0.02]],
        "positions": {"sample": {"x_um": 120.0, "y_um": -40.0}, "vacuum": {"x_um": 300.0, "y_um": 0.0}},
    } | changes
    document = instrument_file("temscript", **settings).model_dump(mode="json")
    document["facts"] |= {
        "camera_lengths_mm": [100.0, 200.0],
        "beam_shift_nm": {"lowest": -500.0, "highest": 500.0},
        "stigmator_nm": {"lowest": -30.0, "highest": 30.0},
        "stage": STAGE,
    } | (facts or {})
    return InstrumentFile.model_validate(document, strict=False)


def opened(port: int, home: Path, clock: Clock | None = None, **changes: Any) -> TemscriptInstrument:
    """The instrument; with a clock of the test's no pause takes time."""
    file = file_of(port, **changes)
    instrument = open_instrument(file, home, clock.sleep, clock) if clock else open_instrument(file, home)
    assert isinstance(instrument, TemscriptInstrument)
    return instrument


def column(**changes: Any) -> ColumnSetting:
    """A setting that both columns and the Null microscope can have; keywords go where they belong."""
    optics = {
        "beam_energy_kev": 200.0,
        "convergence_semi_angle_mrad": 10.0,
        "probe_current_pa": 50.0,
        "camera_length_mm": 100.0,
        "defocus_nm": 5.0,
    }
    own = {name: changes.pop(name) for name in list(changes) if name in ColumnSetting.model_fields}
    return ColumnSetting(optics=Optics(**(optics | changes)), **own)
