"""What a person hears of frames that are lost, and what the detector says of itself, kept with the run."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from db.engine import reader
from db.questions.show import show_run
from devices.acquire import AcquisitionResult, Progress
from devices.intake import FrameCounts
from flows.cli.screen import pace
from stem4d.model import canonical_json
from storage.spec import FileReceipt
from tasks.record import open_run, tell_losses
from tasks.snapshot import snapshot
from tests.devices.simplon_world import FakeUnit, detector_of
from tests.flows.night_world import NAME, small, small_lab

GOING_WELL = Progress(
    frames_done=5000,
    frames_total=10_000,
    elapsed_s=2.0,
    sum_pattern=np.zeros((2, 2), np.uint64),
    max_pattern=np.zeros((2, 2), np.uint32),
    frames=FrameCounts(ok=5000, missing=5000),
    queue_share=0.01,
    held_up_s=0.0,
)


@pytest.mark.parametrize(
    ("state", "words"),
    [
        (GOING_WELL, "2,500 frames/s"),
        (
            replace(GOING_WELL, frames=FrameCounts(ok=4990, missing=5000, duplicate=3, corrupt=7)),
            "2,500 frames/s, 7 corrupt, 3 came twice",
        ),
        (
            replace(GOING_WELL, queue_share=0.75, held_up_s=1.25),
            "2,500 frames/s, queue 75% full, detector held up 1.2 s",
        ),
    ],
)
def test_the_bar_says_what_is_not_as_it_should_be(state: Progress, words: str) -> None:
    assert pace(state) == words


def result(frames: FrameCounts, stopped: str = "") -> AcquisitionResult:
    """How an acquisition ended."""
    receipt = FileReceipt(Path("pass1.h5"), "", 0, frames.ok, False)
    return AcquisitionResult(receipt, "uint16", frames.ok, 0, stopped, frames, held_up_s=0.5)


def test_lost_frames_are_an_event_and_the_detectors_settings_are_kept(tmp_path: Path) -> None:
    detector = detector_of(FakeUnit())
    told: list[tuple[str, str]] = []
    with small_lab(tmp_path) as opened:
        run = open_run.fn(NAME, canonical_json(small("1_overview.yaml", 16)), None, [])
        opened.on_told = lambda one: told.append((one.kind, one.message))
        tell_losses(opened, run, "pass 1 of 1", result(FrameCounts(ok=256, missing=0)))
        # What was not waited for is not lost.
        tell_losses(opened, run, "pass 1 of 1", result(FrameCounts(ok=20, missing=236), "enough"))
        assert told == []
        tell_losses(opened, run, "pass 1 of 1", result(FrameCounts(ok=253, missing=2, duplicate=1)))
        assert told == [("frames lost", "pass 1 of 1: 2 missing, 1 came twice; the file's ledger says which")]
        whole = opened.instrument
        opened.instrument = SimpleNamespace(column=whole.column, detector=detector)
        snapshot(opened, run, "before")
        opened.instrument = whole
        with reader(opened.engine) as session:
            shown = show_run(session, name=run)
    (lost,) = [event for event in shown["events"] if event["kind"] == "frames lost"]
    assert lost["data"] == {
        "ok": 253, "missing": 2, "duplicate": 1, "corrupt": 0, "outside": 0, "strays": 0, "held_up_s": 0.5
    }  # fmt: skip
    kept = {one["name"]: one["value"] for one in shown["snapshots"]["before"]["readings"]}
    assert kept["detector_description"] == "Arina"
    assert kept["detector_threshold_1_energy"] == 40000.0
