"""A run's peak memory does not grow with the number of scan positions."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

PLAN = """
format_version: 1
name: memory-{side}
sample: {{name: s{side}, area: film, sensitivity: robust, thickness_nm: 1, fluence_budget_e_per_a2: 1.0e+9}}
analyses:
  - kind: virtual
    detectors:
      - {{name: bright_field, inner_mrad: 0, outer_mrad: 3}}
      - {{name: dark_field, inner_mrad: 6, outer_mrad: 14}}
optics: {{beam_energy_kev: 200, convergence_semi_angle_mrad: 4, probe_current_pa: 5, camera_length_mm: 100}}
scan: {{shape: [{side}, {side}], step_nm: 0.1}}
exposure: {{dwell_time_us: 20}}
detector: {{name: tiny, shape: [32, 32], pixel_pitch_um: 100, bit_depth: 12}}
"""

INSTRUMENT = """
format_version = 1
name = "memory-stem"
driver = "simulator"
[facts]
beam_energies_kev = [200.0]
camera_lengths_mm = [100.0]
defocus_nm = { lowest = -100.0, highest = 100.0 }
probe_current_pa = { lowest = 0.5, highest = 500.0 }
dwell_time_us = { lowest = 1.0, highest = 1.0e6 }
max_field_nm = 2000.0
apertures = [{ name = "a", convergence_semi_angle_mrad = 4.0 }]
[[facts.detectors]]
name = "tiny"
shape = [32, 32]
pixel_pitch_um = 100.0
bit_depths = [12, 16]
max_frame_rate_hz = 120000.0
max_count_rate_per_px_hz = 1.0e8
[settings]
seed = 1
speed = "accelerated"
[settings.areas.film]
specimen = "random"
seed = 2
spacing_a = 8.0
atom_phase_rad = 0.5
"""

RUN = """
import json, resource, sys
from flows.cli.app import app
try:
    app(["run", sys.argv[1], "-i", sys.argv[2], "--yes", "--json", "--no-prefect"], standalone_mode=True)
except SystemExit:
    pass
print(json.dumps({"peak_kb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss}), file=sys.stderr)
"""

ALLOWED_GROWTH_MB = 48
"""Maps: 40 B a position held, written, read back and drawn are 4 x 10 MB at 512 x 512; the frames are 540 MB."""


def peak_mb(tmp_path: Path, side: int) -> float:
    plan, instrument = tmp_path / f"plan{side}.yaml", tmp_path / "instrument.toml"
    plan.write_text(PLAN.format(side=side))
    instrument.write_text(INSTRUMENT)
    done = subprocess.run(
        [sys.executable, "-c", RUN, str(plan), str(instrument)],
        env={"NIGHTBEAM_HOME": str(tmp_path / "home"), "NIGHTBEAM_WORKER": "inline", "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        timeout=900,
        check=True,
    )
    assert json.loads(done.stdout)["state"] == "done", done.stdout
    return json.loads(done.stderr.splitlines()[-1])["peak_kb"] / 1024


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_peak_memory_does_not_grow_with_the_scan(tmp_path: Path) -> None:
    small, large = peak_mb(tmp_path, 64), peak_mb(tmp_path, 512)
    print(f"peak memory of a run: 64x64 {small:.0f} MB, 512x512 {large:.0f} MB")
    assert large - small < ALLOWED_GROWTH_MB
