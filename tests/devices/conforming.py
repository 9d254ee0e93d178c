"""Subjects of the conformance checks: the simulated microscope, in this process or behind its server, and temscript."""

import time
from pathlib import Path
from typing import Any

from devices.conformance import Subject
from devices.protocols import Instrument
from devices.simulator.instrument import open_here
from stem4d.approach import StagePose
from stem4d.instrument import InstrumentFile
from tests.devices import temscript_world
from tests.devices.simulator_world import AREA, column, exposure, instrument_file, raster

SERVED = "devices.simulator:open_instrument"
HERE = "tests.devices.conforming:open_simulated"
SCAN = raster((4, 6))
STAGE = {
    "x_um": {"lowest": -900.0, "highest": 900.0},
    "y_um": {"lowest": -900.0, "highest": 900.0},
    "z_um": {"lowest": -300.0, "highest": 300.0},
    "alpha_deg": {"lowest": -30.0, "highest": 30.0},
    "backlash_um": 2.0,
}


def open_simulated(file: InstrumentFile, home: Path) -> Instrument:
    """The simulated microscope within this process, on the real clock."""
    return open_here(file, home, time.monotonic, lambda _seconds: None)


def simulated_file(driver: str = "simulator", **settings: Any) -> InstrumentFile:
    """The instrument file of the simulated microscope, with stage, beam shift and stigmator."""
    document = instrument_file("simulator", areas={"sample": AREA, "other": AREA}).model_dump(mode="json")
    document["facts"] |= {
        "stage": STAGE,
        "beam_shift_nm": {"lowest": -500.0, "highest": 500.0},
        "stigmator_nm": {"lowest": -20.0, "highest": 20.0},
    }
    document |= {"driver": driver, "settings": document["settings"] | settings}
    return InstrumentFile.model_validate(document, strict=False)


def simulated(home: Path, driver: str = HERE, **changes: Any) -> Subject:
    """Everything may be done to it."""
    subject: dict[str, Any] = {
        "driver": driver,
        "file": simulated_file(),
        "home": home,
        "settings": (column(), column(camera_length_mm=100.0, defocus_nm=7.0, probe_current_pa=20.0)),
        "positions": ("sample", "other"),
        "pose": StagePose(x_um=3.0, y_um=-4.0, z_um=1.0, alpha_deg=2.0),
        "scan": SCAN,
        "exposure": exposure(SCAN),
        "may_unblank": True,
        "may_close_valves": True,
    }
    return Subject(**{**subject, **changes})


def behind_temscript(port: int, home: Path) -> Subject:
    """What temscript's server has: neither scan engine nor detector."""
    return Subject(
        driver="devices.temscript:open_instrument",
        file=temscript_world.file_of(port),
        home=home,
        settings=(
            temscript_world.column(beam_shift_nm=(30.0, -20.0), diffraction_shift_mrad=(1.0, 2.0)),
            temscript_world.column(
                convergence_semi_angle_mrad=27.6,
                defocus_nm=80.0,
                probe_current_pa=100.0,
                camera_length_mm=100.0,
                stigmator_nm=(1.0, -2.0),
            ),
        ),
        positions=("sample", "vacuum"),
        pose=StagePose(x_um=505.0, y_um=498.0, z_um=-7.0, alpha_deg=5.0),
        may_unblank=True,
        may_close_valves=True,
    )
