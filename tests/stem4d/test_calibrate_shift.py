"""Shifts between images: recovered within their errors on random objects, ambiguous on lattices, absent on noise."""

import numpy as np
import pytest

from stem4d.calibrate.shift import register, without_surface
from stem4d.errors import BadInput


def scenes(
    shape: tuple[int, int], shift: tuple[float, float], rng: np.random.Generator, feature_px: float = 1.5
) -> tuple[np.ndarray, np.ndarray]:
    """A random object of plane waves, of unit variance, seen twice: its shift is exact, without interpolation."""
    waves = rng.normal(0, 1 / feature_px, (150, 2))
    phases = rng.uniform(0, 2 * np.pi, 150)
    y, x = np.indices(shape)

    def seen(dy: float, dx: float) -> np.ndarray:
        return np.asarray(
            sum(np.cos(a * (y - dy) + b * (x - dx) + p) for (a, b), p in zip(waves, phases, strict=True)) / np.sqrt(75)
        )

    return seen(0, 0), seen(*shift)


def _measure(
    shape: tuple[int, int], counts: float, contrast: float, largest: float, runs: int, feature_px: float = 1.5
) -> tuple[np.ndarray, np.ndarray, int]:
    rng = np.random.default_rng(11)
    seen = np.ones(shape, bool)
    errors, pulls, lost = [], [], 0
    for _ in range(runs):
        truth = rng.uniform(-largest, largest, 2)
        images = scenes(shape, tuple(truth), rng, feature_px)
        pair = [[without_surface(rng.poisson(counts * np.maximum(1 + contrast * i, 0)), seen, 0)] for i in images]
        found = register(pair[0], pair[1], seen, seen)
        if not found.ok:
            lost += 1
            continue
        errors.append(np.array(found.shift_px) - truth)
        pulls.append(errors[-1] / np.sqrt(np.diag(found.covariance_px2)))
    return np.array(errors), np.array(pulls), lost


@pytest.mark.parametrize(
    ("shape", "counts", "contrast", "largest", "feature_px", "rms_px"),
    [
        ((64, 64), 1000, 0.2, 6, 1.5, 0.02),
        ((64, 64), 1000, 0.03, 6, 1.5, 0.1),
        ((64, 64), 1000, 0.2, 6, 5.0, 0.06),
        ((16, 16), 1000, 0.3, 2, 1.5, 0.1),
        ((24, 90), 1000, 0.1, 3, 1.5, 0.06),
    ],
)
def test_random_objects_are_registered_within_the_quoted_error(
    shape: tuple[int, int], counts: float, contrast: float, largest: float, feature_px: float, rms_px: float
) -> None:
    errors, pulls, lost = _measure(shape, counts, contrast, largest, 15, feature_px)
    assert lost <= 2
    assert np.sqrt(np.mean(errors**2)) < rms_px
    # Conservative where features are few, never much too small: 30 deviates.
    assert np.std(pulls) < 1.6
    assert np.abs(pulls).max() < 5


def test_images_without_anything_in_common_give_no_shift() -> None:
    errors, _, lost = _measure((48, 48), 1000, 0.0, 3, 10)
    assert lost == 10
    assert len(errors) == 0


def test_a_lattice_is_known_only_up_to_its_period() -> None:
    rng = np.random.default_rng(0)
    y, x = np.indices((64, 64))
    lattice = [1 + 0.2 * (np.cos(2 * np.pi * (y - d) / 8) + np.cos(2 * np.pi * (x - d) / 8)) for d in (0.0, 2.5)]
    seen = np.ones((64, 64), bool)
    images = [[without_surface(rng.poisson(1000 * each), seen, 0)] for each in lattice]
    found = register(images[0], images[1], seen, seen)
    assert not found.ok
    assert "repeats" in found.reason
    assert found.rival_px is not None


def test_images_of_one_scan_count_together() -> None:
    """Two images with independent noise place the shift better than one, and a flat one does no harm."""
    rng = np.random.default_rng(4)
    seen = np.ones((48, 48), bool)
    alone, together = [], []
    for _ in range(10):
        truth = rng.uniform(-2, 2, 2)
        scene = scenes((48, 48), tuple(truth), rng)
        pairs = [[rng.poisson(500 * (1 + 0.05 * s)) for s in scene] for _ in range(4)]
        flat = [rng.poisson(500, (48, 48)) for _ in range(2)]
        images = [[without_surface(p[i], seen, 0) for p in (*pairs, flat)] for i in (0, 1)]
        one = register(images[0][:1], images[1][:1], seen, seen)
        many = register(images[0], images[1], seen, seen)
        assert many.ok
        if one.ok:
            alone.append(np.array(one.shift_px) - truth)
            together.append(np.array(many.shift_px) - truth)
    assert np.mean(np.square(together)) < 0.6 * np.mean(np.square(alone))


def test_missing_rows_are_borne() -> None:
    rng = np.random.default_rng(9)
    images = scenes((64, 64), (1.3, -2.4), rng)
    seen = np.ones((64, 64), bool)
    fewer = seen.copy()
    fewer[50:] = False
    pair = [
        [without_surface(rng.poisson(1000 * (1 + 0.2 * i)) * m, m, 0)]
        for i, m in zip(images, (seen, fewer), strict=True)
    ]
    found = register(pair[0], pair[1], seen, fewer)
    assert found.ok, found.reason
    assert found.shift_px == pytest.approx((1.3, -2.4), abs=0.05)


@pytest.mark.parametrize("shape", [(1, 64), (4, 4)])
def test_too_few_positions_say_so(shape: tuple[int, int]) -> None:
    seen = np.ones(shape, bool)
    found = register([np.zeros(shape)], [np.zeros(shape)], seen, seen)
    assert not found.ok
    assert "too few" in found.reason


def test_a_surface_is_taken_off_and_nothing_else() -> None:
    y, x = np.mgrid[:20, :30] / 10
    surface = 3 + 2 * y - x + 0.5 * x * y + y**2
    detail = np.zeros((20, 30))
    detail[::2, ::3] = 1
    seen = np.ones((20, 30), bool)
    assert np.abs(without_surface(surface, seen, 2)).max() < 1e-9
    left = without_surface(surface + detail, seen, 2)
    assert np.corrcoef(left.ravel(), detail.ravel())[0, 1] > 0.99


def test_bad_input_is_named() -> None:
    seen = np.ones((16, 16), bool)
    with pytest.raises(BadInput):
        register([np.zeros((16, 16))], [np.zeros((16, 17))], seen, seen)
    with pytest.raises(BadInput):
        register([np.zeros((16, 16))], [], seen, seen)
