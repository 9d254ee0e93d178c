"""An instrument with a target to be approached, its thumbnail, and a plan; what its log says was truly done."""

import json
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from math import cos, radians, sin
from pathlib import Path
from typing import Any

import numpy as np

from devices.simulator.instrument import read_truth
from devices.simulator.stage import displacement_nm
from devices.simulator.state import State
from stem4d.approach import SURVEY_ELECTRONS, StagePose
from stem4d.instrument import InstrumentFile
from stem4d.model import canonical_json
from stem4d.plan import Plan
from storage.settings import Settings
from tasks.approach_scans import Way
from tasks.calibrated import uncalibrated
from tasks.lab import Lab, open_lab
from tasks.record import open_run
from tests.devices.server_world import entries

STEP_NM, THUMBNAIL_STEP_NM, DISPLACED_NM = 8.0, 14.0, (290.0, 76.0)
ASTIGMATISM_NM, ASTIGMATISM_DEG = 60.0, 30.0
PLACE_UM = (5.0, 6.0, 0.0)

FACTS = f"""
format_version = 1
name = "approach-stem"
driver = "simulator"

[facts]
beam_energies_kev = [60.0]
camera_lengths_mm = [{100 / 0.33!r}]
defocus_nm = {{ lowest = -3000.0, highest = 3000.0 }}
probe_current_pa = {{ lowest = 0.1, highest = 500.0 }}
dwell_time_us = {{ lowest = 1.0, highest = 1.0e6 }}
max_field_nm = 4000.0
beam_shift_nm = {{ lowest = -1500.0, highest = 1500.0 }}
stigmator_nm = {{ lowest = -500.0, highest = 500.0 }}

[facts.stage]
x_um = {{ lowest = -900.0, highest = 900.0 }}
y_um = {{ lowest = -900.0, highest = 900.0 }}
z_um = {{ lowest = -100.0, highest = 100.0 }}
alpha_deg = {{ lowest = -30.0, highest = 30.0 }}
backlash_um = 2.0

[[facts.apertures]]
name = "C2"
convergence_semi_angle_mrad = 4.6

[[facts.detectors]]
name = "cam"
shape = [32, 32]
pixel_pitch_um = 100.0
bit_depths = [12, 16]
max_frame_rate_hz = 2.0e4
max_count_rate_per_px_hz = 1.0e9
damage_count_rate_per_px_hz = 1.0e10
verified = true
source = "simulated"

[settings]
seed = 5
speed = "accelerated"
"""
AREA = """
specimen = "biological"
globule_nm = 30.0
rms_rad = 0.3
place_um = [5.0, 6.0, 0.0]
"""
TARGET = f"[settings.areas.target]{AREA}seed = 3\n"
OTHER = f"[settings.areas.other]{AREA}seed = 8\n"
FAULTS = f"""
[settings.aberrations]
defocus_nm = 80.0
astigmatism_nm = {ASTIGMATISM_NM}
astigmatism_angle_deg = {ASTIGMATISM_DEG}

[settings.stage]
backlash_nm = 200.0
creep_nm = 6.0
creep_s = 30.0
"""


@contextmanager
def lab_of(home: Path, text: str) -> Iterator[Lab]:
    """An instrument by its file's text, on a home of its own."""
    home.mkdir(exist_ok=True)
    path = home / "instrument.toml"
    path.write_text(text)
    tomllib.loads(text)
    with open_lab(Settings(home=home, worker="inline", prefect=False, disk_reserve_gb=0), path) as opened:
        yield opened


def plan_of(area: str = "target", **approach: Any) -> Plan:
    """Virtual images of 24 x 24 positions at 8 nm, out of focus as the survey is."""
    document: dict[str, Any] = {
        "format_version": 1,
        "name": "approached",
        "sample": {
            "name": "ice",
            "area": area,
            "sensitivity": "robust",
            "thickness_nm": 20.0,
            "fluence_budget_e_per_a2": 5.0,
        },
        "analyses": [
            {"kind": "virtual", "detectors": [{"name": "bright_field", "inner_mrad": 0.0, "outer_mrad": 4.6}]}
        ],
        "optics": {
            "beam_energy_kev": 60.0,
            "convergence_semi_angle_mrad": 4.6,
            "defocus_nm": 1000.0,
            "probe_current_pa": 10.0,
            "camera_length_mm": 100 / 0.33,
        },
        "scan": {"shape": [24, 24], "step_nm": STEP_NM},
        "exposure": {"dwell_time_us": 100.0},
        "detector": {"name": "cam", "shape": [32, 32], "pixel_pitch_um": 100.0, "bit_depth": 12},
    }
    if approach:
        document["approach"] = approach
    return Plan.model_validate_json(json.dumps(document))


def thumbnail_of(home: Path, area: str) -> Path:
    """A survey of an area that lies where it should, as a person would have stored it."""
    with lab_of(home, FACTS + TARGET + OTHER) as opened:
        plan = plan_of(area)
        run = open_run.fn(opened.file.name, canonical_json(plan), None, [])
        way = Way(opened, run, plan, uncalibrated(plan))
        return way.over_target("survey", way.request((40, 40), THUMBNAIL_STEP_NM, SURVEY_ELECTRONS)).path


def displaced(faults: str = FAULTS) -> str:
    """The instrument's file with the target 300 nm off, and faults."""
    return FACTS + TARGET + f"displaced_nm = {list(DISPLACED_NM)}\n" + OTHER + faults


def stands(home: Path) -> StagePose:
    """Where the stage was left."""
    file = InstrumentFile.model_validate(tomllib.loads((home / "instrument.toml").read_text()), strict=False)
    return State(file.facts, read_truth(file), home / "instruments" / file.name).stage.pose


def truly(home: Path) -> tuple[np.ndarray, float, np.ndarray]:
    """Where the last exposure's field lay from the target (y, x) [nm], and what was off in defocus and astigmatism."""
    text = (home / "instrument.toml").read_text()
    file = InstrumentFile.model_validate(tomllib.loads(text), strict=False)
    truth = read_truth(file)
    stage = State(file.facts, truth, home / "instruments" / file.name).stage
    noted = entries(home, file.name)
    number, last = max((i, one) for i, one in enumerate(noted) if one["event"] == "scan")
    column = [one for one in noted[:number] if one["event"] == "column"][-1]["setting"]
    area = truth.areas["target"]
    lies = displacement_nm(
        stage, truth.stage, area.place_um, area.displaced_nm, area.height_nm, np.array([last["simulated_s"]])
    )[0]
    twofold = 2 * radians(truth.aberrations.astigmatism_angle_deg)
    residual = truth.aberrations.astigmatism_nm * np.array([cos(twofold), sin(twofold)])
    return (
        np.array(column["beam_shift_nm"]) - lies,
        truth.aberrations.defocus_nm + column["focus_correction_nm"],
        residual + np.array(column["stigmator_nm"]),
    )
