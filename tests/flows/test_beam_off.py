"""The beam is off while a file is closed, read back and hashed: that takes long, and no dose is booked for it."""

from dataclasses import replace
from pathlib import Path

import pytest

from devices.acquire import Progress
from stem4d.errors import DoseRefused, LimitViolation
from stem4d.model import canonical_json
from stem4d.predict import predict
from stem4d.rules.limits import CREST
from storage import disk
from tasks.calibrated import accumulator_spec, uncalibrated
from tasks.expose import Pass, expose_once, scan_request
from tasks.lab import Lab
from tasks.record import open_run
from tests.flows.exposure_world import booked
from tests.flows.night_world import NAME, column_log, small, small_lab


def one_pass(opened: Lab) -> tuple[str, Pass]:
    """A run that is open, and a pass of it over its area."""
    plan = small("1_overview.yaml", 16)
    run = open_run.fn(NAME, canonical_json(plan), None, [])
    return run, Pass(
        plan=plan,
        column=uncalibrated(plan).column,
        scan=scan_request(plan),
        accumulator=accumulator_spec(plan, uncalibrated(plan), 1),
        position=plan.sample.area,
        area_id=opened.runs[run].area_id,
        purpose="acquisition",
        current_ratio=1.0,
        path=opened.data_folder(run) / "pass1.h5",
        metadata={},
    )


def test_a_beam_that_would_harm_the_detector_is_never_let_through(tmp_path: Path) -> None:
    with small_lab(tmp_path) as opened:
        run, one = one_pass(opened)
        facts = opened.file.facts.detector(one.plan.detector.name)
        assert facts is not None
        limit = facts.damage_count_rate_per_px_hz
        assert limit is not None
        ratio = limit / (predict(one.plan).rate_per_disk_pixel_hz * CREST.value)
        with pytest.raises(LimitViolation, match=r"sim-arina: electron rate.*less current"):
            expose_once(opened, run, replace(one, current_ratio=1.001 * ratio), lambda _progress: None)
        assert booked(opened, run) == []
        assert "unblank" not in {entry["event"] for entry in column_log(tmp_path)}
        # Just below the limit that is not what refuses it: the area's budget is.
        with pytest.raises(DoseRefused):
            expose_once(opened, run, replace(one, current_ratio=0.999 * ratio), lambda _progress: None)


@pytest.mark.parametrize("stopped", ["", "enough"])
def test_the_beam_is_off_before_the_file_is_finished(
    stopped: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hashed = disk.sha256_of_file
    while_hashing: list[bool | None] = []
    while_counting: list[bool | None] = []
    with small_lab(tmp_path) as opened:
        gate = opened.instrument.gate

        def watched(path: Path) -> str:
            while_hashing.append(gate.is_blanked())
            return hashed(path)

        def on_progress(progress: Progress) -> str | None:
            if progress.ended:
                return None
            while_counting.append(gate.is_blanked())
            return stopped or None

        monkeypatch.setattr(disk, "sha256_of_file", watched)
        run, one = one_pass(opened)
        result = expose_once(opened, run, one, on_progress).result
    assert result.stopped == stopped
    assert result.receipt.complete is not bool(stopped)
    assert set(while_counting) == {False}
    assert while_hashing == [True]
