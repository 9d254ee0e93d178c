"""A microscope behind temscript's server for tests: its instrument file, and settings it can be set to."""

import time
from pathlib import Path
from typing import Any

from devices.protocols import ColumnSetting
from devices.temscript.instrument import TemscriptInstrument, open_instrument
from stem4d.dose import DoseLease
from stem4d.instrument import InstrumentFile
from stem4d.plan import Optics

HERE = {"x_um": 10.0, "y_um": -20.0, "z_um": 5.0, "alpha_deg": 2.0}
FACTS: dict[str, Any] = {
    "beam_energies_kev": [200.0, 300.0],
    "apertures": [
        {"name": "C2-50", "convergence_semi_angle_mrad": 21.4},
        {"name": "C2-70", "convergence_semi_angle_mrad": 27.6},
    ],
    "camera_lengths_mm": [100.0, 300.0],
    "defocus_nm": {"lowest": -500.0, "highest": 500.0},
    "probe_current_pa": {"lowest": 1.0, "highest": 500.0},
    "dwell_time_us": {"lowest": 10.0, "highest": 1000.0},
    "max_field_nm": 1000.0,
    "beam_shift_nm": {"lowest": -2000.0, "highest": 2000.0},
    "stigmator_nm": {"lowest": -50.0, "highest": 50.0},
    "stage": {
        "x_um": {"lowest": -900.0, "highest": 900.0},
        "y_um": {"lowest": -2000.0, "highest": 2000.0},
        "z_um": {"lowest": -300.0, "highest": 300.0},
        "alpha_deg": {"lowest": -30.0, "highest": 30.0},
        "backlash_um": 2.0,
    },
    "detectors": [
        {
            "name": "cam",
            "shape": [32, 32],
            "pixel_pitch_um": 100.0,
            "bit_depths": [6, 12],
            "max_frame_rate_hz": 2e4,
            "max_count_rate_per_px_hz": 1e7,
        }
    ],
}


def settings_of(port: int, **changes: Any) -> dict[str, Any]:
    """The ``settings`` table."""
    return {
        "host": "127.0.0.1",
        "port": port,
        "instrument_mode": "TEM",
        "focus_positive": "overfocus",
        "spots": [
            {"index": 5, "probe_current_pa": 100.0},
            {"index": 9, "probe_current_pa": 20.0},
            {"index": 12, "probe_current_pa": 2.0},
        ],
        "camera_lengths": [{"index": 1, "camera_length_mm": 100.0}, {"index": 3, "camera_length_mm": 300.0}],
        "diffraction_shift_mrad": {"lowest": -20.0, "highest": 20.0},
        "beam_shift_axes": [[0.0, 1.0], [-1.0, 0.0]],
        "stigmator_per_nm": [[0.0, 0.01], [0.02, 0.0]],
        "positions": {"sample": HERE, "vacuum": {"x_um": 500.0, "y_um": 500.0}},
        **changes,
    }


def file_of(port: int, facts: dict[str, Any] | None = None, **changes: Any) -> InstrumentFile:
    """An instrument file; changes go to the settings."""
    document = {
        "format_version": 1,
        "name": "test-tem",
        "driver": "temscript",
        "facts": {**FACTS, **(facts or {})},
        "settings": settings_of(port, **changes),
    }
    return InstrumentFile.model_validate(document, strict=False)


def opened(port: int, home: Path, **changes: Any) -> TemscriptInstrument:
    """A connection."""
    instrument = open_instrument(file_of(port, **changes), home)
    assert isinstance(instrument, TemscriptInstrument)
    return instrument


def column(**changes: Any) -> ColumnSetting:
    """A setting that it can do; keywords go to the optics or, where it has them, to the setting."""
    own = {name: changes.pop(name) for name in tuple(changes) if name in ColumnSetting.model_fields}
    optics = {
        "beam_energy_kev": 200.0,
        "convergence_semi_angle_mrad": 21.4,
        "defocus_nm": -35.0,
        "probe_current_pa": 20.0,
        "camera_length_mm": 300.0,
    }
    return ColumnSetting(optics=Optics(**{**optics, **changes}), **own)


def lease(token: int = 1, lasts_s: float = 60.0, owner_token: int = 0) -> DoseLease:
    """A dose lease on the real clock."""
    return DoseLease("sample", 100.0, token, time.monotonic() + lasts_s, owner_token, f"exposure-{token}")
