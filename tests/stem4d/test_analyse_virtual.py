"""Virtual images: contrast beyond counting noise against known truth."""

import numpy as np
import pytest

from stem4d.analyse.virtual.summary import summarise_virtual


def test_contrast_beyond_counting_noise_is_recovered() -> None:
    rng = np.random.default_rng(0)
    recorded = np.ones((40, 40), bool)
    pulls = []
    for _ in range(40):
        scene = 1 + 0.1 * rng.normal(0, 1, recorded.shape)
        found = summarise_virtual("bf", rng.poisson(2000 * scene), recorded, 1e4)
        assert found.mean_fraction == pytest.approx(0.2, rel=0.01)
        assert found.noise == pytest.approx(1 / np.sqrt(2000), rel=0.01)
        pulls.append((found.contrast - 0.1) / found.contrast_uncertainty)
    # 40 deviates
    assert abs(np.mean(pulls)) < 0.6
    assert np.std(pulls) < 1.4


def test_an_even_image_has_no_contrast_within_its_error() -> None:
    rng = np.random.default_rng(1)
    for _ in range(20):
        found = summarise_virtual("bf", rng.poisson(500, (30, 30)), np.ones((30, 30), bool))
        # Near zero the variance is normal, not its root: three of its errors.
        assert found.contrast**2 <= 3 * 2 * max(found.contrast, found.contrast_uncertainty) * found.contrast_uncertainty
        assert found.mean_fraction is None


@pytest.mark.parametrize("recorded", [np.zeros((3, 3), bool), np.eye(3, dtype=bool) & (np.arange(3) == 0)])
def test_too_little_gives_nan_and_a_text(recorded: np.ndarray) -> None:
    found = summarise_virtual("bf", np.ones((3, 3), int), recorded)
    assert np.isnan(found.contrast)
    assert "bf" in found.text


def test_only_recorded_positions_count() -> None:
    counts = np.full((4, 4), 10)
    counts[0] = 0
    assert summarise_virtual("adf", counts, counts > 0).mean_counts == 10
