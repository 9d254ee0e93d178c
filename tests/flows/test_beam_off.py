"""The beam is off while a file is closed, read back and hashed: that takes long, and no dose is booked for it."""

from pathlib import Path

import pytest

from devices.acquire import Progress
from stem4d.model import canonical_json
from storage import disk
from tasks.calibrated import accumulator_spec, uncalibrated
from tasks.expose import Pass, expose_once, scan_request
from tasks.lab import Lab
from tasks.record import open_run
from tests.flows.night_world import NAME, small, small_lab


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
