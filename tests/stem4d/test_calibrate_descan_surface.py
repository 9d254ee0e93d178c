"""Centres of single frames and descan surfaces against truth, with hot and dead pixels; what is not one is refused."""

from dataclasses import replace
from time import process_time

import numpy as np
import pytest
from quality_world import disk

from stem4d.calibrate.centres import Centres, disk_centres
from stem4d.calibrate.descan_surface import DescanSurface, descan_surface, fit_descan_surface
from stem4d.calibrate.disk import DiskFit, find_disk
from stem4d.calibrate.still import still_disk
from stem4d.errors import BadInput

SHAPE = (64, 64)
STEP_NM = 0.5
FLAT = np.zeros((2, 3))


def _frames(
    centres: np.ndarray, electrons: float, rng: np.random.Generator, radius: float = 16.0
) -> tuple[np.ndarray, np.ndarray]:
    """Frames (n, det_y, det_x) with 1 % dead and two hot pixels, and their mask."""
    bad = rng.random(SHAPE) < 0.01
    hot = [(4, 9), (33, 28)]
    frames = np.empty((len(centres), *SHAPE), np.uint16)
    for i, centre in enumerate(centres):
        bright = disk(SHAPE, tuple(centre), radius)
        frames[i] = rng.poisson(bright / bright.sum() * electrons + 0.02 * electrons / bright.size)
    frames[:, bad] = 0
    for pixel in hot:
        frames[:, pixel[0], pixel[1]], bad[pixel] = 65535, True
    return frames, bad


def _twice(frames: np.ndarray, bad: np.ndarray) -> tuple[DiskFit, Centres]:
    first = find_disk(frames.sum(axis=0), bad)
    assert first.ok, first.reason
    still = still_disk(first, disk_centres(frames, first, bad), frames, bad)
    return still, disk_centres(frames, still, bad)


@pytest.mark.parametrize(("electrons", "radius"), [(300.0, 8.0), (1e4, 16.0), (1e5, 24.0)])
def test_each_frame_beats_its_centre_of_mass_within_its_error(electrons: float, radius: float) -> None:
    rng = np.random.default_rng(3)
    truth = 31.5 + rng.uniform(-2, 2, (150, 2))
    _, centres = _twice(*_frames(truth, electrons, rng, radius))
    error = centres.centre_px - truth
    assert np.isfinite(error).all()
    floor = radius / 2 / np.sqrt(electrons)
    assert np.sqrt(np.mean(error**2)) < 0.75 * floor
    # 300 deviates: their mean to 0.06 and the share within one sigma to 0.027.
    assert np.abs(np.mean(error / centres.uncertainty_px, axis=0)).max() < 0.35
    assert 0.60 < np.mean(np.abs(error) < centres.uncertainty_px) < 0.77


def test_dead_pixels_do_not_drag_the_centre_of_a_disk_that_moves() -> None:
    rng = np.random.default_rng(0)
    truth = 31.5 + np.linspace(-3, 3, 41)[:, None] * (1.0, 0.5)
    frames, bad = _frames(truth, 1e6, rng)
    bad[20:30, 30:33] = True  # a gap as well
    frames[:, 20:30, 30:33] = 0
    _, centres = _twice(frames, bad)
    # The centre of mass of the same pixels is off by half a pixel and more.
    assert np.abs(centres.centre_px - truth).max() < 0.02


def test_frames_without_a_disk_have_no_centre() -> None:
    rng = np.random.default_rng(0)
    frames, bad = _frames(np.full((4, 2), 31.5), 1e4, rng)
    found = find_disk(frames.sum(axis=0), bad)
    frames[1] = 0
    frames[2] = np.roll(frames[2], 40, axis=0)
    covered = bad.copy()
    covered[:, :32] = True
    assert np.isfinite(disk_centres(frames, found, bad).centre_px).all(axis=1).tolist() == [True, False, False, True]
    assert np.isnan(disk_centres(frames, found, covered | np.rot90(covered)).centre_px).all()


@pytest.mark.slow  # compiles the kernel for another dtype
def test_frames_with_nan_have_no_centre() -> None:
    frames, bad = _frames(np.full((4, 2), 31.5), 1e4, np.random.default_rng(0))
    found = find_disk(frames.sum(axis=0), bad)
    broken = frames.astype(np.float32)
    broken[0, 31, 40] = broken[3, 31, 15:17] = np.nan
    assert np.isfinite(disk_centres(broken, found, bad).centre_px).all(axis=1).tolist() == [False, True, True, False]


def test_a_frame_takes_a_fraction_of_a_millisecond() -> None:
    rng = np.random.default_rng(0)
    frames, bad = _frames(np.full((200, 2), 31.5), 1e4, rng)
    found = find_disk(frames.sum(axis=0), bad)
    disk_centres(frames[:2], found, bad)
    times = []
    for _ in range(3):
        start = process_time()
        disk_centres(frames, found, bad)
        times.append((process_time() - start) / len(frames))
    # 0.03 ms of a core that is quiet; ten times that for one that shares its caches.
    assert min(times) < 3e-4


def _maps(
    quadratic: np.ndarray, noise: float, rng: np.random.Generator, shape: tuple[int, int] = (24, 32)
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Slopes drawn, centre maps (2, scan_y, scan_x) and the truth without noise."""
    slope = rng.normal(0, 0.03, (2, 2))
    y, x = np.meshgrid(*((np.arange(n) - (n - 1) / 2) * STEP_NM for n in shape), indexing="ij")
    truth = 31.5 + np.tensordot(slope, np.stack([y, x]), 1) + np.tensordot(quadratic, np.stack([y**2, y * x, x**2]), 1)
    return slope, truth + rng.normal(0, noise, truth.shape), truth


def _fit(maps: np.ndarray) -> DescanSurface:
    return fit_descan_surface(*maps, np.ones(maps.shape[1:], bool), STEP_NM)


def test_a_quadratic_surface_is_recovered_within_its_errors_and_a_plane_is_left_a_plane() -> None:
    rng = np.random.default_rng(1)
    pulls: dict[bool, list[np.ndarray]] = {True: [], False: []}
    called = 0
    for _ in range(40):
        for curved in (True, False):
            quadratic = rng.normal(0, 2e-3, (2, 3)) if curved else FLAT
            slope, maps, truth = _maps(quadratic, 0.05, rng)
            fit = _fit(maps)
            assert fit.ok, fit.reason
            if curved:
                assert fit.curved
                pulls[True].append((fit.quadratic_px_per_nm2 - quadratic) / fit.quadratic_uncertainty_px_per_nm2)
            called += fit.curved and not curved
            pulls[False].append((fit.slope_px_per_nm - slope) / fit.slope_uncertainty_px_per_nm)
            model = descan_surface(fit, (24, 32), STEP_NM)
            # Six terms out of 768 positions: 0.05 px times sqrt(6/768) is 0.004 px.
            assert np.sqrt(np.mean((model - truth) ** 2)) < 0.01
            assert fit.residual_rms_px == pytest.approx(0.05, rel=0.1)
            assert fit.beyond_model_px < 0.01
    assert called <= 1  # one false alarm in 1e3 is wanted
    for kind, wide in ((True, 240), (False, 320)):
        share = np.mean(np.abs(pulls[kind]) < 1)
        assert abs(share - 0.683) < 3.5 * np.sqrt(0.22 / wide), (kind, share)


def test_what_no_surface_describes_is_a_figure() -> None:
    rng = np.random.default_rng(2)
    _, maps, _ = _maps(FLAT, 0.05, rng)
    maps[0] += 0.1 * np.sin(np.arange(32) / 32 * 6 * np.pi)
    fit = _fit(maps)
    # A sine of 0.1 px in one of two components is 0.05 px; blocks of 0.375 periods see 0.78 of it, a line takes some.
    assert fit.beyond_model_px == pytest.approx(0.039, rel=0.2)


def test_outliers_and_missing_positions_do_not_matter() -> None:
    rng = np.random.default_rng(4)
    slope, maps, _ = _maps(FLAT, 0.05, rng)
    maps[:, rng.random((24, 32)) < 0.2] += 5
    maps[:, 3] = np.nan
    fit = _fit(maps)
    assert fit.ok
    assert not fit.curved
    assert np.abs((fit.slope_px_per_nm - slope) / fit.slope_uncertainty_px_per_nm).max() < 4


def test_too_few_positions_or_a_line_are_refused() -> None:
    nothing = np.full((8, 8), np.nan)
    assert not fit_descan_surface(nothing, nothing, np.ones((8, 8), bool), 1.0).ok
    rows = np.zeros((16, 16), bool)
    rows[:2] = True
    maps = _maps(FLAT, 0.05, np.random.default_rng(0), (16, 16))[1]
    assert "determine" in fit_descan_surface(*maps, rows, STEP_NM).reason


@pytest.mark.slow
def test_descan_over_a_vacuum_scan_is_known_to_a_hundredth_of_a_pixel() -> None:
    off, covered = [], []
    for seed in range(5):
        rng = np.random.default_rng(seed)
        slope, _, truth = _maps(rng.normal(0, 2e-3, (2, 3)) * (seed % 2), 0.0, rng, (64, 64))
        frames, bad = _frames(truth.reshape(2, -1).T, 1e4, rng)
        _, centres = _twice(frames, bad)
        fit = _fit(centres.centre_px.T.reshape(2, 64, 64))
        assert fit.ok, fit.reason
        assert fit.curved == bool(seed % 2)
        off.append(np.sqrt(np.mean((descan_surface(fit, (64, 64), STEP_NM) - truth) ** 2)))
        covered.append(np.abs(fit.slope_px_per_nm - slope) < fit.slope_uncertainty_px_per_nm)
    assert max(off) < 0.01
    assert 0.4 < np.mean(covered) < 0.95  # 20 deviates


def test_bad_input_is_named() -> None:
    found = find_disk(disk(SHAPE, (31.0, 31.0), 16.0) * 100)
    frames = np.zeros((1, *SHAPE), np.uint16)
    with pytest.raises(BadInput):
        disk_centres(frames, replace(found, ok=False, reason="none"))
    with pytest.raises(BadInput):
        disk_centres(frames[0], found)
    with pytest.raises(BadInput):
        disk_centres(frames, found, np.zeros((3, 3), bool))
    with pytest.raises(BadInput):
        disk_centres(frames, found, counts_per_electron=0.0)
    with pytest.raises(BadInput):
        fit_descan_surface(np.zeros((4, 4)), np.zeros((4, 5)), np.ones((4, 4), bool), 1.0)
    with pytest.raises(BadInput):
        fit_descan_surface(np.zeros((4, 4)), np.zeros((4, 4)), np.ones((4, 4), bool), 0.0)
