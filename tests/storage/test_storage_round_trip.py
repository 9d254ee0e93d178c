"""What is written is what is read, over shapes, types, orders and gaps."""

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import storage.write
from stem4d.maps import RunMaps, maps_from_arrays
from storage.layout import DTYPES
from storage.read import open_frames
from storage.write import FrameWriter
from tests.storage.storage_world import counts, spec_at, written

SIZES = st.integers(1, 9)
FACT = st.one_of(
    st.floats(allow_nan=False, allow_infinity=False),
    st.integers(-(2**63), 2**63 - 1),
    st.booleans(),
    st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=50),
    st.lists(st.floats(allow_nan=False, allow_infinity=False), max_size=5),
    st.lists(st.integers(-(2**63), 2**63 - 1), min_size=1, max_size=5),
    st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=9), min_size=1, max_size=5),
)


@settings(max_examples=20, deadline=None)
@given(data=st.data(), scan=st.tuples(SIZES, SIZES), detector=st.tuples(SIZES, SIZES), dtype=st.sampled_from(DTYPES))
def test_frames_come_back_exactly_whatever_was_left_out(
    data: st.DataObject, scan: tuple[int, int], detector: tuple[int, int], dtype: str
) -> None:
    with TemporaryDirectory() as folder:
        spec = spec_at(Path(folder) / "a.h5", scan, detector, dtype=dtype)
        frames = counts(spec)
        order = data.draw(st.permutations(range(spec.positions)))
        kept = order[: data.draw(st.integers(0, spec.positions))]
        with FrameWriter(spec) as writer:
            for position in kept:
                writer.write(position, frames[position : position + 1])
            receipt = writer.finish({})
        assert receipt.frames_written == len(kept)
        assert receipt.complete == (len(kept) == spec.positions)
        with open_frames(spec.path) as read:
            seen = {}
            for first, batch in read.batches(max_bytes=data.draw(st.integers(1, 4000))):
                assert batch.dtype == np.dtype(dtype)
                seen |= {first + index: frame for index, frame in enumerate(batch)}
            assert np.flatnonzero(read.recorded).tolist() == sorted(kept) == sorted(seen)
            for position, frame in seen.items():
                np.testing.assert_array_equal(frame, frames[position])


@settings(max_examples=20, deadline=None)
@given(facts=st.dictionaries(st.from_regex(r"[a-z][a-z0-9_]{0,20}", fullmatch=True), FACT, max_size=12))
def test_metadata_come_back_with_their_types(facts: dict[str, Any]) -> None:
    with TemporaryDirectory() as folder:
        spec = spec_at(Path(folder) / "a.h5", (1, 1), (2, 2), metadata=facts)
        written(spec)
        with open_frames(spec.path) as read:
            expected = facts | {"scan_step_nm": 0.5, "mrad_per_pixel": 1.25}
            assert read.metadata == expected
            assert {name: type(value) for name, value in read.metadata.items()} == {
                name: type(value) for name, value in expected.items()
            }


@pytest.mark.parametrize("compressor", [True, False])
def test_both_ways_of_compressing_give_the_same_frames(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, compressor: bool
) -> None:
    if not compressor:
        monkeypatch.setattr(storage.write, "bitshuffle_lz4", lambda: None)
    spec = spec_at(tmp_path / "a.h5", (10, 20), (32, 48))
    written(spec)
    with h5py.File(spec.path) as file:
        data = file["entry/data/data"]
        assert data.chunks == (1, 1, 32, 48)
        assert "32008" in data._filters  # HDF5's registered number of bitshuffle
        np.testing.assert_array_equal(data[:].reshape(-1, 32, 48), counts(spec))
        assert data.id.get_storage_size() < data.nbytes / 2


def test_maps_come_back_and_those_never_written_do_not(tmp_path: Path) -> None:
    spec = spec_at(tmp_path / "a.h5", virtual_detectors=("BF", "ADF.1"))
    rng = np.random.default_rng(1)
    scan, detector = spec.scan_shape, spec.detector_shape
    maps = RunMaps(
        recorded=rng.random(scan) > 0.5,
        total=rng.integers(0, 2**60, scan, np.uint64),
        com_y_px=rng.random(scan, np.float32),
        com_x_px=np.full(scan, np.nan, np.float32),
        maximum=rng.integers(0, 99, scan, np.uint32),
        saturated_px=rng.integers(0, 99, scan, np.uint32),
        invalid_px=rng.integers(0, 99, scan, np.uint32),
        sum_pattern=rng.integers(0, 2**60, detector, np.uint64),
        max_pattern=rng.integers(0, 99, detector, np.uint32),
        full_scale=4095,
        virtual={name: rng.integers(0, 2**60, scan, np.uint64) for name in spec.virtual_detectors},
    )
    with FrameWriter(spec) as writer:
        writer.finish(maps.as_arrays())
    with open_frames(spec.path) as read:
        back = maps_from_arrays(read.online(), read.full_scale)
    assert back.full_scale == 4095
    for name, array in maps.as_arrays().items():
        np.testing.assert_array_equal(back.as_arrays()[name], array)
        assert back.as_arrays()[name].dtype == array.dtype
    other = spec_at(tmp_path / "b.h5")
    written(other)
    with open_frames(other.path) as read:
        assert read.online() == {}
