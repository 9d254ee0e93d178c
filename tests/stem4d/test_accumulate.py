"""The accumulator against plain numpy, to the last count, and its refusals."""

import pickle
import tracemalloc

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stem4d.accumulate import Accumulator, AccumulatorSpec, Annulus, PixelMask
from stem4d.errors import BadInput

PIXELS = (np.uint8, np.uint16, np.uint32)


def random_frames(rng, dtype, shape):
    """Values over the whole range, with its ends and zero much more often than by chance."""
    largest = int(np.iinfo(dtype).max)
    ends = rng.choice([0, 1, largest // 2, largest // 2 + 1, largest - 1, largest], shape)
    return np.where(rng.random(shape) < 0.5, ends, rng.integers(0, largest, shape, endpoint=True)).astype(dtype)


def by_numpy(spec, frames):
    """Every result, in int64 throughout: a bad pixel is set to 0 and is not counted."""
    good = np.ones(spec.detector_shape, bool) if spec.bad_pixels is None else ~spec.bad_pixels
    values = frames.astype(np.int64) * good
    region = values if spec.com_region is None else values * spec.com_region.weights(spec.detector_shape)
    y, x = np.indices(spec.detector_shape)
    counts = region.sum(axis=(1, 2))
    with np.errstate(invalid="ignore"):
        centre = np.stack([(region * y).sum(axis=(1, 2)) / counts, (region * x).sum(axis=(1, 2)) / counts], axis=1)
    full = np.inf if spec.full_scale is None else spec.full_scale
    least = full if spec.saturation_value is None else spec.saturation_value
    return {
        "virtual": np.stack(
            [(values * d.weights(spec.detector_shape).astype(np.int64)).sum(axis=(1, 2)) for d in spec.detectors],
            axis=1,
        ),
        "total": values.sum(axis=(1, 2)),
        "com_counts": counts,
        "moment_yx": np.stack(
            [(region * (g - middle)).sum(axis=(1, 2)) for g, middle in zip((y, x), spec.reference_px, strict=True)],
            axis=1,
        ),
        "centre_px": centre,
        "maximum": values.max(axis=(1, 2)),
        "saturated_px": ((values >= least) & (values <= full)).sum(axis=(1, 2)),
        "invalid_px": (values > full).sum(axis=(1, 2)),
        "sum_pattern": values.sum(axis=0),
        "max_pattern": values.max(axis=0, initial=0),
    }


def assert_exact(accumulator, batches, expected):
    results = [accumulator.add(batch) for batch in batches]
    for name, truth in expected.items():
        if name.endswith("pattern"):
            got = getattr(accumulator, name)
        else:
            got = np.concatenate([getattr(result, name) for result in results])
        if name == "centre_px":
            # Two roundings of a quotient near 100 px against one: a few units in the last place.
            np.testing.assert_allclose(got, truth, rtol=0, atol=1e-12 * max(accumulator.spec.detector_shape))
        else:
            np.testing.assert_array_equal(got, truth, err_msg=name)


@pytest.mark.parametrize("dtype", PIXELS)
@pytest.mark.parametrize("shape", [(64, 64), (37, 53), (3, 1001)])
def test_equals_numpy_over_batches_of_odd_size(dtype, shape):
    rng = np.random.default_rng(1)
    largest = int(np.iinfo(dtype).max)
    middle = (shape[0] - 1) / 2, (shape[1] - 1) / 2
    spec = AccumulatorSpec(
        detector_shape=shape,
        dtype=dtype,
        detectors=(
            Annulus("bright", middle, 0, 9.5),
            Annulus("off centre", (0.3, shape[1] - 2.2), 2, 30),
            PixelMask("random", rng.random(shape) < 0.4),
            PixelMask("weighted", rng.integers(0, 256, shape)),
        ),
        full_scale=largest - 1,
        saturation_value=largest // 2,
        bad_pixels=rng.random(shape) < 0.02,
        com_region=Annulus("region", middle, 1, 20),
    )
    batches = [random_frames(rng, dtype, (n, *shape)) for n in (1, 2, 3, 4, 5, 67)]
    assert_exact(Accumulator(spec), batches, by_numpy(spec, np.concatenate(batches)))


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.data())
def test_equals_numpy_for_any_shape_and_mask(data):
    dtype = data.draw(st.sampled_from(PIXELS))
    shape = data.draw(st.tuples(st.integers(1, 40), st.integers(1, 40)))
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    largest = int(np.iinfo(dtype).max)
    bad = rng.random(shape) < data.draw(st.sampled_from([0, 0.1, 0.9]))
    used = tuple(rng.integers(0, side) for side in shape)
    bad[used] = False
    masks = [rng.random(shape) < data.draw(st.floats(0, 1)) for _ in range(data.draw(st.integers(1, 9)))]
    for mask in masks:
        mask[used] = True
    full_scale = data.draw(st.none() | st.integers(1, largest))
    spec = AccumulatorSpec(
        detector_shape=shape,
        dtype=dtype,
        detectors=tuple(PixelMask(f"mask {k}", mask) for k, mask in enumerate(masks)),
        full_scale=full_scale,
        saturation_value=None if full_scale is None else data.draw(st.integers(1, full_scale)),
        bad_pixels=bad,
        threads=data.draw(st.integers(1, 3)),
    )
    batches = [random_frames(rng, dtype, (data.draw(st.integers(1, 9)), *shape)) for _ in range(2)]
    assert_exact(Accumulator(spec), batches, by_numpy(spec, np.concatenate(batches)))


@pytest.mark.parametrize("dtype", PIXELS)
@pytest.mark.parametrize("shape", [(8000, 3), (3, 8000), (700, 900)])
def test_the_largest_values_on_one_side_of_a_wide_detector_overflow_nothing(dtype, shape):
    largest = int(np.iinfo(dtype).max)
    spec = AccumulatorSpec(shape, dtype, (PixelMask("all", np.full(shape, 255)),), full_scale=largest)
    frames = np.zeros((3, *shape), dtype)
    frames[0] = largest
    frames[1, :, shape[1] // 2 :] = largest
    frames[2, : shape[0] // 2] = largest
    result = Accumulator(spec).add(frames)
    for k, frame in enumerate(frames):
        y, x = (np.flatnonzero(frame.any(axis=axis)).tolist() for axis in (1, 0))
        counts = largest * len(y) * len(x)
        reference_y, reference_x = spec.reference_px
        assert int(result.total[k]) == counts
        assert int(result.virtual[k, 0]) == 255 * counts
        assert int(result.moment_yx[k, 0]) == largest * len(x) * sum(v - reference_y for v in y)
        assert int(result.moment_yx[k, 1]) == largest * len(y) * sum(v - reference_x for v in x)
        assert int(result.saturated_px[k]) == len(y) * len(x)


def test_the_sum_pattern_passes_the_end_of_32_bits():
    spec = AccumulatorSpec((4, 4), np.uint16, (), full_scale=None)
    accumulator = Accumulator(spec)
    for _ in range(8):
        accumulator.add(np.full((20_000, 4, 4), 65535, np.uint16))
    assert accumulator.frames_seen == 160_000
    np.testing.assert_array_equal(accumulator.sum_pattern, np.full((4, 4), 160_000 * 65535, np.uint64))


def test_the_number_of_threads_changes_nothing():
    rng = np.random.default_rng(2)
    frames = random_frames(rng, np.uint16, (333, 32, 48))
    expected = by_numpy(AccumulatorSpec((32, 48), np.uint16, (Annulus("a", (15, 20), 0, 9),), 60000), frames)
    for threads in (1, 2, 5):
        spec = AccumulatorSpec((32, 48), np.uint16, (Annulus("a", (15, 20), 0, 9),), 60000, threads=threads)
        assert_exact(Accumulator(spec), [frames], expected)


@pytest.mark.parametrize("shape", [(10, 12), (9, 11)])
def test_the_centre_is_in_pixel_centre_indices_and_nan_without_counts(shape):
    frames = np.zeros((3, *shape), np.uint16)
    frames[1, 2, 7] = 5
    frames[2] = 3
    result = Accumulator(AccumulatorSpec(shape, np.uint16, (), full_scale=4095)).add(frames)
    assert np.isnan(result.centre_px[0]).all()
    assert result.centre_px[1].tolist() == [2, 7]
    assert result.centre_px[2].tolist() == [(shape[0] - 1) / 2, (shape[1] - 1) / 2]


def test_an_annulus_takes_its_inner_radius_and_not_its_outer_one():
    # (3, 4) is 5 px from the centre (0, 0).
    at_five = np.zeros((1, 8, 8), np.uint8)
    at_five[0, 3, 4] = 1
    rings = (Annulus("inside", (0, 0), 0, 5), Annulus("outside", (0, 0), 5, 20))
    result = Accumulator(AccumulatorSpec((8, 8), np.uint8, rings, full_scale=None)).add(at_five)
    assert result.virtual.tolist() == [[0, 1]]


def test_without_full_scale_nothing_is_called_saturated_and_the_result_says_so():
    frames = np.full((2, 4, 4), 65535, np.uint16)
    unknown = Accumulator(AccumulatorSpec((4, 4), np.uint16, (), full_scale=None)).add(frames)
    assert not unknown.counts_saturation
    assert unknown.saturated_px.tolist() == unknown.invalid_px.tolist() == [0, 0]
    known = Accumulator(AccumulatorSpec((4, 4), np.uint16, (), full_scale=63)).add(frames)
    assert known.counts_saturation
    assert known.invalid_px.tolist() == [16, 16]


@pytest.mark.parametrize(
    "arrange",
    [
        pytest.param(lambda f: f[::2, :, ::-1], id="strided"),
        pytest.param(lambda f: np.asfortranarray(f), id="fortran"),
        pytest.param(lambda f: np.frombuffer(f.tobytes(), f.dtype).reshape(f.shape), id="read-only"),
        pytest.param(lambda f: f[:0], id="empty"),
    ],
)
def test_any_memory_layout_is_taken(arrange):
    frames = arrange(random_frames(np.random.default_rng(3), np.uint16, (10, 6, 7)))
    spec = AccumulatorSpec((6, 7), np.uint16, (Annulus("a", (2, 3), 0, 3),), full_scale=100)
    assert_exact(Accumulator(spec), [frames], by_numpy(spec, frames))


def test_memory_does_not_grow_with_the_number_of_frames():
    accumulator = Accumulator(AccumulatorSpec((32, 32), np.uint16, (), full_scale=100))
    frames = np.ones((64, 32, 32), np.uint16)
    accumulator.add(frames)
    tracemalloc.start(10)
    try:
        for _ in range(200):
            accumulator.add(frames)
        # Ours alone: threads that other tests of the process left behind allocate as well.
        kept = tracemalloc.take_snapshot().filter_traces(
            [tracemalloc.Filter(True, "*/stem4d/accumulate*.py", None, True)]
        )
    finally:
        tracemalloc.stop()
    grown = sum(trace.size for trace in kept.traces)
    # One total per frame kept, at 4 bytes, would be 51 kB; the interpreter's own caches take a few kB.
    assert grown < 20_000


def test_a_specification_survives_pickling():
    rng = np.random.default_rng(4)
    mask = rng.random((5, 6)) < 0.5
    spec = AccumulatorSpec((5, 6), "uint8", (PixelMask("m", mask),), 255, bad_pixels=~mask & (rng.random((5, 6)) < 0.5))
    frames = random_frames(rng, np.uint8, (7, 5, 6))
    assert_exact(Accumulator(pickle.loads(pickle.dumps(spec))), [frames], by_numpy(spec, frames))


ONES = np.ones((4, 5), bool)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"detector_shape": (0, 5)}, ["detector_shape", "(0, 5)", "8000"]),
        ({"detector_shape": (4, 9000)}, ["detector_shape", "(4, 9000)", "8000"]),
        ({"detector_shape": (4000, 4000), "dtype": "u4"}, ["detector_shape", "(4000, 4000)", "2^63"]),
        ({"dtype": "i2"}, ["dtype", "<i2", "uint16"]),
        ({"dtype": ">u2"}, ["dtype", ">u2", "native"]),
        ({"full_scale": 65536}, ["full_scale", "65536", "65535"]),
        ({"full_scale": 0}, ["full_scale", "got 0", "1 to 65535"]),
        ({"full_scale": 63, "saturation_value": 64}, ["saturation_value", "64", "63"]),
        ({"full_scale": None, "saturation_value": 64}, ["saturation_value", "64", "full_scale is None"]),
        ({"bad_pixels": np.zeros((5, 4), bool)}, ["bad_pixels", "(5, 4)", "(4, 5)"]),
        ({"bad_pixels": np.zeros((4, 5), np.uint8)}, ["bad_pixels", "uint8", "bool"]),
        ({"bad_pixels": ONES}, ["bad_pixels", "20 pixels bad", "at least one"]),
        ({"detectors": (PixelMask("m", np.ones((5, 4), bool)),)}, ["m.mask", "(5, 4)", "(4, 5)"]),
        ({"detectors": (PixelMask("m", ONES), PixelMask("m", ONES))}, ["detectors", "'m'", "once"]),
        ({"detectors": (Annulus("far", (50, 50), 0, 3),)}, ["far", "(50, 50)", "(4, 5)"]),
        ({"detectors": (PixelMask("none", ~ONES),)}, ["none", "0 pixels", "(4, 5)"]),
        ({"com_region": PixelMask("w", ONES * 7)}, ["com_region", "7", "0 and 1"]),
        ({"threads": 0}, ["threads", "got 0", "1 to 64"]),
    ],
)
def test_a_specification_that_does_not_fit_names_both_values(wrong, said):
    fits = {"detector_shape": (4, 5), "dtype": "u2", "detectors": (), "full_scale": 4095}
    with pytest.raises(BadInput) as refused:
        AccumulatorSpec(**{**fits, **wrong})
    for text in said:
        assert text in str(refused.value)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: Annulus("a", (1, 2), 5, 5), ["a.inner_px, outer_px", "(5, 5)"]),
        (lambda: Annulus("a", (1, 2), -1, 5), ["inner_px", "(-1, 5)"]),
        (lambda: Annulus("a", (1, 2), 0, float("inf")), ["outer_px", "inf"]),
        (lambda: Annulus("a", (float("nan"), 2), 0, 1), ["a.centre_px", "nan"]),
        (lambda: Annulus("", (1, 2), 0, 1), ["name", "''"]),
        (lambda: PixelMask("m", np.full((4, 5), 256)), ["m.mask", "256", "255"]),
        (lambda: PixelMask("m", np.full((4, 5), -1)), ["m.mask", "-1", "subtract"]),
        (lambda: PixelMask("m", np.ones((4, 5))), ["m.mask", "float64", "whole"]),
        (lambda: PixelMask("m", np.ones(20, bool)), ["m.mask", "(20,)", "two-dimensional"]),
    ],
)
def test_a_bad_virtual_detector_is_refused(make, said):
    with pytest.raises(BadInput) as refused:
        make()
    for text in said:
        assert text in str(refused.value)


@pytest.mark.parametrize(
    ("frames", "said"),
    [
        (np.zeros((3, 5, 4), np.uint16), ["frames.shape", "(3, 5, 4)", "(n, 4, 5)"]),
        (np.zeros((4, 5), np.uint16), ["frames.shape", "(4, 5)", "(n, 4, 5)"]),
        (np.zeros((3, 4, 5), np.uint32), ["frames.dtype", "<u4", "<u2"]),
        (np.zeros((3, 4, 5), ">u2"), ["frames.dtype", ">u2", "<u2"]),
    ],
)
def test_frames_of_another_kind_are_refused_and_change_nothing(frames, said):
    accumulator = Accumulator(AccumulatorSpec((4, 5), np.uint16, (), full_scale=4095))
    with pytest.raises(BadInput) as refused:
        accumulator.add(frames)
    for text in said:
        assert text in str(refused.value)
    assert accumulator.frames_seen == 0
    assert not accumulator.sum_pattern.any()
