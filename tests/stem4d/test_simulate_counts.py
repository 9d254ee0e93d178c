"""Counting: the distribution, the counter, bad pixels and reproducibility."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chisquare, poisson

from stem4d.errors import BadInput
from stem4d.simulate.counts import Counter, noise_keys, record, scattered_pixels
from stem4d.simulate.integrating import Integrator, integrate

CLEAN = np.zeros((64, 64), np.bool_)


def keys(frames: int, seed: int = 5, run: int = 1, row: int = 0) -> np.ndarray:
    return noise_keys(seed, run, np.full(frames, row), np.arange(frames))


def flat(frames: int, value: float = 1e-3) -> np.ndarray:
    return np.full((frames, *CLEAN.shape), value, np.float32)


@pytest.mark.parametrize("mean", [0.003, 0.3, 4.0, 11.99, 12.01, 60.0, 3000.0])
def test_counts_are_poisson(mean: float) -> None:
    frames = record(flat(24), mean * 1e3, keys(24), Counter(16, CLEAN, CLEAN))
    true_mean = float(np.float32(1e-3)) * mean * 1e3
    # Bins of about equal chance; at least 5 expected in each.
    edges = np.unique(poisson.ppf(np.linspace(0, 1, 21)[1:-1], true_mean))
    expected = np.diff(np.concatenate([[0.0], poisson.cdf(edges, true_mean), [1.0]])) * frames.size
    observed = np.bincount(np.searchsorted(edges, frames.ravel()), minlength=len(expected))
    assert expected.min() > 5
    # The draw is a fixed function of its keys, so this cannot fail by chance; 1e-3 is an ordinary level.
    assert chisquare(observed, expected).pvalue > 1e-3


def test_pixels_frames_and_rows_are_uncorrelated() -> None:
    counter = Counter(16, CLEAN, CLEAN)
    first, second = (record(flat(40), 8e3, keys(40, row=row), counter).astype(float) for row in (0, 1))
    size = first.size
    for one, other in (
        (first[:, :, 1:], first[:, :, :-1]),
        (first[:, 1:], first[:, :-1]),
        (first[1:], first[:-1]),
        (first, second),
    ):
        # The correlation of independent samples is 1/sqrt(n) wide; four of that.
        assert abs(np.corrcoef(one.ravel(), other.ravel())[0, 1]) < 4 / np.sqrt(size)


@pytest.mark.parametrize(
    ("bit_depth", "top", "dtype"), [(1, 1, "u1"), (6, 63, "u1"), (12, 4095, "u2"), (16, 65535, "u2")]
)
def test_counter_stands_at_full_scale(bit_depth: int, top: int, dtype: str) -> None:
    frames = record(flat(2, 0.1), 1e6, keys(2), Counter(bit_depth, CLEAN, CLEAN))
    assert frames.dtype == np.dtype(dtype)
    assert (frames == top).all()


def test_hot_and_dead_pixels() -> None:
    hot, dead = CLEAN.copy(), CLEAN.copy()
    hot[3, 4] = hot[5, 6] = dead[7, 8] = dead[5, 6] = True
    frames = record(flat(3), 1e4, keys(3), Counter(12, hot, dead))
    assert (frames[:, 3, 4] == 4095).all()
    assert (frames[:, dead] == 0).all()
    assert frames[:, ~(hot | dead)].max() < 100


def test_a_blanked_beam_leaves_only_hot_pixels() -> None:
    hot = CLEAN.copy()
    hot[1, 2] = True
    assert record(flat(2), 0.0, keys(2), Counter(6, hot, CLEAN)).sum() == 2 * 63


@given(cut=st.integers(1, 19), seed=st.integers(0, 2**63 - 1), run=st.integers(0, 2**40), row=st.integers(0, 70000))
def test_frames_do_not_depend_on_how_a_row_is_cut(cut: int, seed: int, run: int, row: int) -> None:
    small = np.zeros((6, 8), np.bool_)
    counter, fractions = Counter(12, small, small), np.full((20, 6, 8), 1e-3, np.float32)
    whole_keys = keys(20, seed, run, row)
    whole = record(fractions, 15e3, whole_keys, counter)
    parts = [record(fractions[part], 15e3, whole_keys[part], counter) for part in (slice(cut), slice(cut, None))]
    np.testing.assert_array_equal(whole, np.concatenate(parts))


@given(seed=st.integers(0, 2**63 - 1), run=st.integers(0, 2**40), row=st.integers(0, 70000))
def test_every_part_of_the_seed_counts(seed: int, run: int, row: int) -> None:
    base = keys(4, seed, run, row)
    assert len(set(base.tolist())) == 4
    for other in (keys(4, seed ^ 1, run, row), keys(4, seed, run + 1, row), keys(4, seed, run, row + 1)):
        assert not set(base.tolist()) & set(other.tolist())


def test_scattered_pixels_have_the_asked_number_and_the_seeds_places() -> None:
    mask = scattered_pixels((128, 128), 6e-4, 3)
    assert mask.sum() == round(6e-4 * 128**2)
    np.testing.assert_array_equal(mask, scattered_pixels((128, 128), 6e-4, 3))
    assert (mask != scattered_pixels((128, 128), 6e-4, 4)).any()


@pytest.mark.parametrize("value", [np.nan, np.inf, 3e38])
@pytest.mark.timeout(60)
def test_a_mean_that_is_no_number_is_refused_and_does_not_hang(value: float) -> None:
    """Rejection would look for a count for ever: one pixel among many is enough."""
    fractions, never = flat(2), Counter(16, CLEAN, CLEAN)
    fractions[1, 3, 5] = value
    with pytest.raises(BadInput, match=r"electrons per pixel.*finite and at most 1e\+09"):
        record(fractions, 1e3, keys(2), never)
    with pytest.raises(BadInput, match="electrons per pixel"):
        integrate(fractions, 1e3, keys(2), Integrator(16, CLEAN, CLEAN, 1.0, flat(1)[0], 0.0, flat(1)[0]))


def test_impossible_requests_are_refused_with_the_limit() -> None:
    counter = Counter(12, CLEAN, CLEAN)
    with pytest.raises(BadInput, match="1e\\+09"):
        record(flat(1), 1e10, keys(1), counter)
    with pytest.raises(BadInput, match="electrons"):
        record(flat(1), float("nan"), keys(1), counter)
    with pytest.raises(BadInput, match="64 x 64"):
        record(np.zeros((1, 32, 64), np.float32), 1.0, keys(1), counter)
