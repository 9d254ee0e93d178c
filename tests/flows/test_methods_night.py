"""The night with a target for each analysis: every one of them ends a run with pictures, and figures that are true."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sqlalchemy import select

from db.engine import reader
from db.models import AnalysisResult
from flows.night import run_night
from flows.queue import queue
from storage.results import read_results
from storage.settings import Settings
from tasks.lab import open_lab
from tests.flows.night_world import PLANS


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Of each method; nothing was calibrated before but what every run needs."""
    home = tmp_path_factory.mktemp("methods")
    night, queued = queue(PLANS / "methods_night.yaml")
    settings = Settings(home=home, worker="inline", prefect=False, disk_reserve_gb=0)
    with open_lab(settings, PLANS / "instruments" / "methods.toml") as opened:
        run_night(opened, night, queued, with_prefect=False)
        with reader(opened.engine) as session:
            rows = session.execute(select(AnalysisResult.method, AnalysisResult.path)).all()
    return {method: read_results(Path(path)).outcome for method, path in rows}


@pytest.mark.slow
def test_each_analysis_has_pictures_with_units_and_errors(results: dict[str, Any]) -> None:
    rings = {f"virtual {name}" for name in ("bright_field", "annular_bright_field", "dark_field")}
    assert set(results) == rings | {"com", "strain", "orientation", "tcbf", "ptychography"}
    for method, outcome in results.items():
        assert outcome.verdict != "not_possible", (method, outcome.reason)
        assert any(one.uncertainty is not None for one in outcome.pictures), method


@pytest.mark.slow
def test_what_they_say_is_true(results: dict[str, Any]) -> None:
    """Against plans/instruments/methods.toml."""
    tcbf = results["tcbf"].figures
    assert abs(tcbf["defocus_nm"] - 30.0) < 3 * tcbf["defocus_uncertainty_nm"]
    # Of an unknown rotation and sign of the defocus the images tell half a turn less.
    turned = (tcbf["scan_rotation_deg"] - 12.0 + 90) % 180 - 90
    assert abs(turned) < 3 * tcbf["scan_rotation_uncertainty_deg"] + 0.05
    exx = next(one for one in results["strain"].pictures if one.name == "exx").values
    # The inclusion's middle is strained by 0.02 more than its surroundings; the probe averages over 2 nm of 4.
    assert 0.014 < np.nanmax(exx) - np.nanmedian(exx) < 0.023
    # Without a rotation, which is 12 deg, there is no right picture, and it is said.
    ptychography = results["ptychography"]
    assert ptychography.verdict == "doubtful"
    assert "nobody measured the rotation" in ptychography.reason
