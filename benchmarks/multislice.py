"""Our multislice against abTEM's: the same potential, grid, slices and probes, one thread each."""

import json
import os
import subprocess
import tempfile
import time
from collections.abc import Iterator
from math import pi
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.harness import PEERS, Figure, peer_python
from stem4d import optics
from stem4d.simulate.multislice import Column, column, diffraction
from stem4d.simulate.probe import Aberrations, spectrum

ENERGY_KEV, ANGLE_MRAD, REPEATS, BATCH = 300.0, 27.6, 3, 4
ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "NUMBA_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
PEER = "abTEM 1.0.11 on one thread"


def _probes(positions: Any, extent: float, pixels: int) -> Any:
    k = np.fft.fftfreq(pixels, extent / pixels).astype(np.float32)
    angle = optics.wavelength_a(ENERGY_KEV) * k * 1e3
    wave = spectrum(angle[:, None], angle[None, :], ENERGY_KEV, ANGLE_MRAD, Aberrations())
    wave = (wave / np.sqrt(np.sum(np.abs(wave) ** 2))).astype(np.complex64)
    # Its axis 0 is x: waves stand as abTEM's here, since the potential does.
    ramps = np.exp(-2j * pi * (k[None, :, None] * positions[:, :1, None] + k[None, None, :] * positions[:, 1:, None]))
    return np.fft.ifft2(wave * ramps.astype(np.complex64)).astype(np.complex64)


def _timed(waves: Any, specimen: Column) -> tuple[float, Any]:
    best, frames = float("inf"), None
    for _ in range(REPEATS + 1):  # the first run compiles
        begun = time.perf_counter()
        parts = [diffraction(waves[at : at + BATCH].copy(), specimen) for at in range(0, len(waves), BATCH)]
        best = min(best, time.perf_counter() - begun)
        frames = np.concatenate(parts)
    return best / len(waves), frames


def run() -> Iterator[Figure]:
    """Ratio of abTEM's time per pattern to ours, and how far the patterns differ."""
    python = peer_python("abtem")
    with tempfile.TemporaryDirectory() as folder:
        told = subprocess.run(
            [python, PEERS / "abtem_peer.py", folder],
            capture_output=True,
            text=True,
            check=True,
            env=os.environ | ONE_THREAD,
        )
        theirs = json.loads(told.stdout.splitlines()[-1])
        with np.load(Path(folder) / "reference.npz") as reference:
            known = {name: reference[name] for name in reference.files}
    extent, pixels = float(known["extent"]), known["thick"].shape[1]
    size = (extent / pixels, extent / pixels)
    waves = _probes(known["positions"], extent, pixels)
    for name, potential, thickness, expected, seconds, goal in (
        ("multislice", "thick", "thicknesses", "frames", theirs["multislice_s"], ">= 1.5"),
        ("single slice", "thin", "thin_thickness", "single", theirs["single_s"], ">= 4"),
    ):
        slices = known[potential].astype(np.float64)
        specimen = column(slices, tuple(range(len(slices))), float(known[thickness][0]), ENERGY_KEV, size)
        ours, frames = _timed(waves, specimen)
        seen = np.fft.fftshift(frames, axes=(1, 2))
        there = known[expected]
        first = [(ours_ - theirs_) // 2 for ours_, theirs_ in zip(seen.shape[1:], there.shape[1:], strict=True)]
        seen = seen[:, first[0] : first[0] + there.shape[1], first[1] : first[1] + there.shape[2]]
        off = float(np.abs(seen - there).sum() / there.sum())
        detail = (
            f"{pixels}² px, {len(slices)} slices: ours {1e3 * ours:.2f} ms, theirs {1e3 * seconds:.2f} ms a pattern"
        )
        yield Figure(f"{name}: times abTEM", seconds / ours, "", goal, PEER, detail)
        yield Figure(f"{name}: difference of patterns", off, "", "<= 1e-05", PEER, "sum |difference| / sum")
