"""Our ptychography against phaserEM's fastest engine on one set: time, likeness to the truth, memory."""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import scipy.fft
from scipy import ndimage

from benchmarks import ptychography_set as made_as
from benchmarks.harness import PEERS, ROOT, Figure
from stem4d.analyse.method import Given
from stem4d.analyse.ptychography.method import PTYCHOGRAPHY
from stem4d.analyse.ptychography.options import PtychographyOptions
from tests.peer_environments import python_of
from tests.stem4d.analyse_world import InMemory

ITERATIONS, REPEATS = 20, 2
CROP_A = 52.0
"""Side of the middle of the scanned field that is compared."""
PEER = "phaserEM 0.3.1, jax 0.10.2, ePIE, groups of 32"


def likeness(phase: Any, pixel_a: float, corner_a: Any, made: made_as.Made) -> tuple[float, float]:
    """Best correlation with the truth over shifts of up to a pixel, planes taken off, and the slope over the truth.

    The truth holds only frequencies that the pixels carry; ``corner_a`` is pixel (0, 0) from the first position.
    """
    middle = (made.counts.shape[0] - 1) * made_as.STEP_A / 2
    first = np.ceil((middle - CROP_A / 2 - np.asarray(corner_a)) / pixel_a).astype(int)
    number = int(CROP_A / pixel_a)
    found = phase[first[0] : first[0] + number, first[1] : first[1] + number]
    k = np.abs(scipy.fft.fftfreq(len(made.phase), made.pixel_a)) < 0.5 / pixel_a
    truth = scipy.fft.ifft2(scipy.fft.fft2(made.phase) * k[:, None] * k[None, :]).real
    y, x = np.indices(found.shape)
    terms = np.column_stack([np.ones(found.size), y.ravel(), x.ravel()])

    def flat(image: Any) -> Any:
        return image.ravel() - terms @ np.linalg.lstsq(terms, image.ravel(), rcond=None)[0]

    best, level = (-1.0, 0.0), flat(found)
    at = np.asarray(corner_a)[:, None] + (first[:, None] + np.arange(number)) * pixel_a + made.first_a
    for down in np.arange(-1, 1.01, 0.125):
        for along in np.arange(-1, 1.01, 0.125):
            places = np.meshgrid(*((at + np.array([[down], [along]]) * pixel_a) / made.pixel_a), indexing="ij")
            expected = flat(ndimage.map_coordinates(truth, places, order=3))
            product = float(level @ expected)
            power = float(expected @ expected)
            best = max(best, (product / float(np.sqrt(power * (level @ level))), product / power))
    return best


def ours(folder: Path) -> dict[str, float]:
    """The method on the set in a folder; run in a process of its own, so that its memory is its own."""
    counts = np.load(folder / "counts.npy")
    given = Given(
        beam_energy_kev=made_as.ENERGY_KEV,
        convergence_semi_angle_mrad=made_as.ALPHA_MRAD,
        mrad_per_pixel=made_as.MRAD_PER_PIXEL,
        scan_step_nm=(made_as.STEP_A / 10, made_as.STEP_A / 10),
        origin_px=np.array([made_as.DETECTOR / 2, made_as.DETECTOR / 2]),
        bad_pixels=np.zeros(counts.shape[2:], bool),
        scan_rotation_deg=0.0,
        defocus_nm=made_as.DEFOCUS_NM,
    )
    rows = InMemory(counts)
    short, long, whole = (
        PtychographyOptions(iterations=2, half_data=False),
        PtychographyOptions(iterations=ITERATIONS, half_data=False),
        PtychographyOptions(iterations=ITERATIONS),
    )
    prepared = PTYCHOGRAPHY.prepare(given, long, rows)
    parts = PTYCHOGRAPHY.part(given, long, rows, prepared, 0, len(counts))
    # What the kernel remembers as the most this process held begins anew.
    Path("/proc/self/clear_refs").write_text("5")
    before = _resident("VmRSS")
    PTYCHOGRAPHY.finish(given, short, prepared, parts)
    best = float("inf")
    for _ in range(REPEATS):
        begun = time.perf_counter()
        outcome = PTYCHOGRAPHY.finish(given, long, prepared, parts)
        best = min(best, time.perf_counter() - begun)
    begun = time.perf_counter()
    outcome = PTYCHOGRAPHY.finish(given, whole, prepared, parts)
    with_halves = time.perf_counter() - begun
    extra = _resident("VmHWM") - before
    phase = outcome.pictures[0]
    np.savez(folder / "ours.npz", phase=phase.values, pixel_a=10 * phase.pixel_nm[0])
    return {"iteration_s": best / ITERATIONS, "with_halves_s": with_halves, "extra_mib": extra}


def run() -> Iterator[Figure]:
    """Seconds an iteration, likeness and memory of ours; the same of the peer, and the ratio."""
    python = python_of(PEERS / "phaser.txt")
    made = made_as.make()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        np.save(folder / "counts.npy", made.counts)
        about = {
            "energy_kev": made_as.ENERGY_KEV,
            "alpha_mrad": made_as.ALPHA_MRAD,
            "defocus_nm": made_as.DEFOCUS_NM,
            "mrad_per_pixel": made_as.MRAD_PER_PIXEL,
            "step_a": made_as.STEP_A,
            "scan": list(made.counts.shape[:2]),
        }
        (folder / "about.json").write_text(json.dumps(about))
        us = _answer([sys.executable, "-m", "benchmarks.ptychography", folder], os.environ | {"OMP_NUM_THREADS": "1"})
        plain = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        them = _answer([python, PEERS / "phaser_peer.py", folder, str(ITERATIONS)], plain)
        with np.load(folder / "ours.npz") as found:
            our = likeness(found["phase"], float(found["pixel_a"]), (0.0, 0.0), made)
        with np.load(folder / "phaser.npz") as found:
            their = likeness(found["phase"], float(found["pixel_a"][0]), found["corner_a"], made)
    patterns = f"{made_as.SCAN**2} patterns of {made_as.DETECTOR}², {ITERATIONS} iterations"
    load = f"load {os.getloadavg()[0]:.1f}"
    yield Figure("ptychography: an iteration", us["iteration_s"], "s", "<= 0.65", "2 threads", f"{patterns}; {load}")
    detail = f"theirs {them['iteration_s']:.2f} s, {them['with_compiling_s']:.2f} s with compiling; {load}"
    yield Figure("ptychography: times phaserEM", them["iteration_s"] / us["iteration_s"], "", ">= 2", PEER, detail)
    detail = f"theirs {their[0]:.3f}"
    yield Figure("ptychography: correlation with the truth", our[0], "", ">= 0.97", PEER, detail)
    yield Figure("ptychography: phase over true phase", our[1], "", "", PEER, f"theirs {their[1]:.2f}; 1 is true")
    detail = f"theirs {them['extra_mib']:.0f} MiB"
    yield Figure("ptychography: memory above the data", us["extra_mib"] / 1024, "GiB", "<= 1", PEER, detail)
    yield Figure("ptychography: with both halves", us["with_halves_s"], "s", "", "", "whole, halves and figures")


def _answer(command: list[Any], environment: dict[str, str]) -> dict[str, float]:
    told = subprocess.run(command, capture_output=True, text=True, check=True, env=environment, cwd=ROOT)
    answer: dict[str, float] = json.loads(told.stdout.splitlines()[-1])
    return answer


def _resident(field: str) -> float:
    """MiB of this process by a line of its status."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(field))


if __name__ == "__main__":
    print(json.dumps(ours(Path(sys.argv[1]))))
