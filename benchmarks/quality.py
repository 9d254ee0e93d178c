"""What judging costs an acquisition: the same stream with and without the questions that may stop it early."""

import statistics
import tempfile
from collections.abc import Iterator
from pathlib import Path

from benchmarks.emulated import Detector, emulated
from benchmarks.harness import ROOT, Figure
from benchmarks.stream import Case, acquired
from devices.acquire import OnProgress, Progress
from stem4d.plan import Plan
from stem4d.quality.online import watch
from storage.documents import load_model

CASE = Case(192, (200, 250), 0.0)
ROUNDS = 5


def run() -> Iterator[Figure]:
    """The part of the frames a second that is lost to judging them, rounds in turn."""
    with tempfile.TemporaryDirectory() as folder, emulated(CASE.side_px) as detector:
        path = Path(folder) / "scan.h5"
        _rate_hz(detector, path, lambda progress: None)  # loads and compiles
        rounds = [
            (_rate_hz(detector, path, lambda progress: None), _rate_hz(detector, path, _judging()))
            for _ in range(ROUNDS)
        ]
    losses = [1 - judged / alone for alone, judged in rounds]
    alone, judged = (statistics.median(rates) for rates in zip(*rounds, strict=True))
    yield Figure(
        "quality: part of the worker's throughput",
        statistics.median(losses),
        "",
        "<= 0.15",
        "the same stream without a question",
        f"{CASE.frames} frames of {CASE.name}; {judged:.0f} against {alone:.0f} frames/s; rounds {min(losses):.3f} to "
        f"{max(losses):.3f}; asked of a pattern that is suspicious each time, the dearest to judge",
    )


def _judging() -> OnProgress:
    """The questions of a run, whose answer is let pass: a flat pattern has no disk."""
    plan = load_model(ROOT / "plans" / "case_a.yaml", Plan)
    detector = plan.detector.model_copy(update={"shape": (CASE.side_px, CASE.side_px), "bit_depth": 16})
    scan = plan.scan.model_copy(update={"shape": CASE.scan})
    ask = watch(plan.model_copy(update={"detector": detector, "scan": scan}))

    def on_progress(progress: Progress) -> None:
        ask(progress.sum_pattern, progress.max_pattern, progress.frames_done)

    return on_progress


def _rate_hz(detector: Detector, path: Path, on_progress: OnProgress) -> float:
    seconds, result = acquired(CASE, detector, path, on_progress)
    assert result.receipt.complete, result
    path.unlink()
    return CASE.frames / seconds
