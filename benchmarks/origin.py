"""Origin of the patterns of a descanned scan with two hot pixels: our pass against its goal, and py4DSTEM's get_origin.

Hot pixels and the disk are found in a sample of frames; then the accumulator takes the centre of mass in a region about
the disk from every frame, beside all else that it takes.
"""

import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from math import pi, sqrt
from pathlib import Path

import numpy as np
import numpy.typing as npt

from benchmarks.harness import Figure, Peer
from stem4d.accumulate import Accumulator, AccumulatorSpec, Annulus
from stem4d.calibrate.centres import disk_centres
from stem4d.calibrate.descan import descan_plane, fit_descan
from stem4d.calibrate.disk import find_disk
from stem4d.calibrate.pixels import find_bad_pixels

Array = npt.NDArray[np.float64]
Frames = npt.NDArray[np.uint16]

SCAN, DETECTOR, RADIUS_PX = (128, 128), (192, 192), 32.0
LEVEL, BACKGROUND, FULL_SCALE = 4.0, 0.02, 4095
RAMP_PX, WAVE_PX = (6.0, 4.0), 0.5
THREADS, ROUNDS, SAMPLE, SEED = 2, 7, 512, 4
MARGIN_PX = 8.0
"""Of the region beyond the disk of the mean: room for the descan."""
FLOOR_PX = RADIUS_PX / (2 * sqrt(LEVEL * pi * RADIUS_PX**2))
"""Shot noise of a disk's centre of mass, R/(2 sqrt(N)) [px]."""
PEER_FRAMES = 64
PEER = "py4DSTEM 0.14.18 get_origin_single_dp, one thread"


@dataclass(frozen=True, eq=False)
class Moving:
    """Frames (n, det_y, det_x) and the true centres (n, 2) of their disks [px]."""

    frames: Frames
    centre_px: Array


def moving_disk() -> Moving:
    """The small set of the reference measurements, drawn anew: a ramp, a wave, and two pixels at full scale."""
    rng = np.random.default_rng(SEED)
    y, x = np.meshgrid(*(np.linspace(-0.5, 0.5, each) for each in SCAN), indexing="ij")
    wave = WAVE_PX * np.sin(4 * pi * x)
    middle = (DETECTOR[0] - 1) / 2
    centre = np.stack([middle + RAMP_PX[0] * y + wave, middle + RAMP_PX[1] * x - wave], axis=-1).reshape(-1, 2)
    frames = np.empty((len(centre), *DETECTOR), np.uint16)
    rows, columns = (np.arange(each, dtype=np.float32) for each in DETECTOR)
    for n, (at_y, at_x) in enumerate(centre):
        # A pixel on the edge is lit by the part of it that lies within: its distance tells that to 1 %.
        beyond = np.hypot(rows[:, None] - np.float32(at_y), columns[None, :] - np.float32(at_x)) - RADIUS_PX
        frames[n] = rng.poisson(BACKGROUND + LEVEL * np.clip(0.5 - beyond, 0, 1))
    frames[:, 30, 40] = frames[:, 100, 101] = FULL_SCALE
    return Moving(frames, centre)


def looked_for(frames: Frames) -> AccumulatorSpec:
    """What to take from the frames: hot pixels and the disk found in a sample of them."""
    sample = frames[:: max(len(frames) // SAMPLE, 1)]
    first = Accumulator(AccumulatorSpec(DETECTOR, np.uint16, (), FULL_SCALE, threads=THREADS))
    first.add(sample)
    mean = first.sum_pattern / len(sample)
    bad = find_bad_pixels(mean, len(sample), first.max_pattern).mask
    disk = find_disk(mean, bad)
    if not disk.ok:
        raise RuntimeError(disk.reason)
    region = Annulus("disk", disk.centre_px, 0, disk.radius_px + MARGIN_PX)
    return AccumulatorSpec(DETECTOR, np.uint16, (), FULL_SCALE, bad_pixels=bad, com_region=region, threads=THREADS)


def run() -> Iterator[Figure]:
    """Speed and error of the centre of mass in a region; of the disk's edge by likelihood; of the peer."""
    world = moving_disk()
    looked_for(world.frames)
    looking, seconds, cpu = [], [], []
    for _ in range(ROUNDS):
        begun = time.perf_counter()
        spec = looked_for(world.frames)
        looking.append(time.perf_counter() - begun)
        accumulator = Accumulator(spec)
        begun, begun_cpu = time.perf_counter(), time.process_time()
        centres = accumulator.add(world.frames).centre_px
        seconds.append(time.perf_counter() - begun)
        cpu.append((time.process_time() - begun_cpu) / THREADS)
    speed = len(world.frames) / float(np.median(seconds))
    yield Figure(
        "origin: patterns a second",
        speed,
        "1/s",
        ">= 50000",
        "192 x 192, uint16, in memory",
        f"{THREADS} threads; rounds {len(world.frames) / max(seconds):.0f} to {len(world.frames) / min(seconds):.0f},"
        f" by CPU time {len(world.frames) / float(np.median(cpu)):.0f}; hot pixels and disk found once before, in"
        f" {float(np.median(looking)):.2f} s",
    )
    off = centres - world.centre_px
    yield Figure(
        "origin: rms error over the shot-noise floor",
        float(np.sqrt((off**2).mean())) / FLOOR_PX,
        "",
        "<= 1.06",
        f"R/(2 sqrt(N)) = {FLOOR_PX:.3f} px",
        f"{np.sqrt((off**2).mean()):.3f} px, with two hot pixels at {FULL_SCALE}",
    )
    bias = float(np.abs(off.mean(axis=0)).max())
    yield Figure("origin: bias", bias, "px", "<= 0.01", "truth", "larger of y and x, mean over the scan")
    maps = np.moveaxis(centres.reshape(*SCAN, 2), -1, 0)
    plane = fit_descan(maps[0], maps[1], np.ones(SCAN, bool), 1.0)
    wave = world.centre_px.reshape(*SCAN, 2) - np.moveaxis(descan_plane(plane, SCAN, 1.0), 0, -1)
    yield Figure(
        "origin: rms of the fitted plane about the truth",
        float(np.sqrt((wave**2).mean())),
        "px",
        "",
        "truth",
        f"the wave of {WAVE_PX:g} px, {WAVE_PX / sqrt(2):.2f} px rms, is no plane and stays",
    )
    yield from _by_likelihood(world)
    yield from _against_py4dstem(world, speed)


def _by_likelihood(world: Moving) -> Iterator[Figure]:
    """The edge's estimator, which descan maps are measured with: slower, and better than any centre of mass."""
    some = world.frames[::16]
    mean = some.mean(axis=0)
    bad = find_bad_pixels(mean, len(some), some.max(axis=0)).mask
    disk = find_disk(some[len(some) // 2].astype(np.float64), bad)
    disk_centres(some[:2], disk, bad)
    begun = time.perf_counter()
    centres = disk_centres(some, disk, bad)
    speed = len(some) / (time.perf_counter() - begun)
    off = centres.centre_px - world.centre_px[::16]
    yield Figure(
        "origin by the disk's edge: rms error over the floor of the centre of mass",
        float(np.sqrt(np.nanmean(off**2))) / FLOOR_PX,
        "",
        "<= 1",
        f"R/(2 sqrt(N)) = {FLOOR_PX:.3f} px",
        f"{speed:.0f} patterns/s on one thread, bias {np.abs(np.nanmean(off, axis=0)).max():.4f} px",
    )


def _against_py4dstem(world: Moving, speed: float) -> Iterator[Figure]:
    chosen = np.linspace(0, len(world.frames) - 1, PEER_FRAMES).astype(int)
    one = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
    with tempfile.TemporaryDirectory() as folder, Peer("py4dstem", **one) as peer:
        np.save(Path(folder) / "frames.npy", world.frames[chosen])
        to = str(Path(folder) / "origin.npy")
        answer = peer.ask(do="origin", frames=str(Path(folder) / "frames.npy"), radius_px=RADIUS_PX, to=to)
        off = np.load(to) - world.centre_px[chosen]
    theirs = PEER_FRAMES / float(str(answer["seconds"]))
    yield Figure(
        "origin: patterns a second, times py4DSTEM",
        speed / theirs,
        "",
        ">= 100",
        PEER,
        f"theirs {theirs:.0f} patterns/s, bias {off[:, 0].mean():+.1f}, {off[:, 1].mean():+.1f} px (hot pixels)",
    )
