"""Frames by rows of any file, and results that come back as they were written, or say why they do not."""

from pathlib import Path

import h5py
import numpy as np
import pytest

from stem4d.analyse.method import Outcome, Picture
from stem4d.errors import BadInput
from storage.read import open_frames
from storage.results import Results, read_results, write_results
from storage.rows import FrameRows
from tests.storage.storage_world import counts, spec_at, written


def rows_of(path: Path, first: int, stop: int) -> tuple[list[int], np.ndarray]:
    with open_frames(path) as frames:
        got = list(FrameRows(frames).read(first, stop))
    return [int(one) for positions, _ in got for one in positions], np.concatenate([frames for _, frames in got])


@pytest.mark.parametrize(("first", "stop"), [(0, 3), (1, 2), (2, 3)])
@pytest.mark.parametrize("ours", [True, False])
def test_rows_are_those_that_were_asked_for(tmp_path: Path, ours: bool, first: int, stop: int) -> None:
    spec = spec_at(tmp_path / "one.h5")
    if ours:
        written(spec)
    else:
        with h5py.File(spec.path, "w") as file:
            file["data"] = counts(spec).reshape(*spec.scan_shape, *spec.detector_shape)
    positions, frames = rows_of(spec.path, first, stop)
    assert positions == list(range(first * 5, stop * 5))
    np.testing.assert_array_equal(frames, counts(spec)[first * 5 : stop * 5])


def test_rows_of_a_foreign_file_are_read_on_by_one_child(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from storage import foreign

    begun: list[int] = []
    child = foreign._Child

    def counted(path: Path, limits: foreign.ChildLimits, first: int = 0) -> foreign._Child:
        begun.append(first)
        return child(path, limits, first)

    monkeypatch.setattr(foreign, "_Child", counted)
    spec = spec_at(tmp_path / "one.h5")
    with h5py.File(spec.path, "w") as file:
        file["data"] = counts(spec).reshape(*spec.scan_shape, *spec.detector_shape)
    with open_frames(spec.path) as frames:
        rows = FrameRows(frames)
        for first in (0, 2, 1):  # on, over a row, and back: which takes another child
            for positions, got in rows.read(first, first + 1):
                np.testing.assert_array_equal(got, counts(spec)[positions])
        assert begun == [0, 5]
        one, other = frames.batches(max_bytes=1), frames.batches(max_bytes=1)
        next(one)
        next(other)
        with pytest.raises(BadInput, match="one pass at a time"):
            next(one)


def results(**changes: object) -> Results:
    values = np.array([[1.0, np.nan], [3.0, 4.0]])
    pictures = (
        Picture("exx", "Strain exx", values, "", "signed", (0.5, 0.25), values / 10),
        Picture("phase", "Phase", values.astype(np.float32), "rad", "signed", (0.5, 0.5)),
    )
    made_from = {"options": {"a": 1}, "input_sha256": ["ab"]}
    outcome = Outcome(
        "doubtful", "residual < 2 µm", {"defocus_nm": 1.5, "disks": 4, "note": "Å", "unknown": None}, pictures
    )
    return Results("strain", outcome, made_from)


def test_results_come_back_as_they_were(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "one.h5"
    write_results(path, results())
    found, wanted = read_results(path), results()
    assert (found.method, found.made_from) == (wanted.method, wanted.made_from)
    assert (found.outcome.verdict, found.outcome.reason) == ("doubtful", "residual < 2 µm")
    assert found.outcome.figures == wanted.outcome.figures
    for one, other in zip(found.outcome.pictures, wanted.outcome.pictures, strict=True):
        assert (one.name, one.title, one.unit, one.kind, one.pixel_nm) == (
            other.name, other.title, other.unit, other.kind, other.pixel_nm,
        )  # fmt: skip
        np.testing.assert_array_equal(one.values, other.values)
        assert (one.uncertainty is None) == (other.uncertainty is None)
    assert [one.name for one in tmp_path.rglob("*")] == ["deep", "one.h5"]  # nothing half written is left


def test_others_find_the_pictures(tmp_path: Path) -> None:
    path = tmp_path / "one.h5"
    write_results(path, results())
    with h5py.File(path) as file:
        picture = file["entry"][file["entry"].attrs["default"]]
        assert picture.attrs["NX_class"] == "NXdata"
        assert list(picture.attrs["axes"]) == ["y", "x"]
        assert picture[picture.attrs["signal"]].shape == (2, 2)
        np.testing.assert_array_equal(picture["x"], [0, 0.25])
        assert picture["y"].attrs["units"] == "nm"


@pytest.mark.parametrize("harm", ["cut", "text", "newer", "missing"])
def test_results_that_cannot_be_read_say_so(tmp_path: Path, harm: str) -> None:
    path = tmp_path / "one.h5"
    write_results(path, results())
    if harm == "cut":
        path.write_bytes(path.read_bytes()[:1000])
    elif harm == "text":
        path.write_text("not HDF5")
    elif harm == "missing":
        path.unlink()
    else:
        with h5py.File(path, "a") as file:
            file["entry"].attrs["format_version"] = 99
    with pytest.raises(BadInput):
        read_results(path)


def test_a_full_disk_is_said_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_args: object) -> None:
        raise OSError("Can't write data (file write failed: errno = 28, error message = 'No space left on device')")

    monkeypatch.setattr("storage.results._fill", full)
    with pytest.raises(BadInput, match="disk is full"):
        write_results(tmp_path / "one.h5", results())
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_written_is_a_users_mistake(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(BadInput):
        write_results(tmp_path / "file" / "one.h5", results())


def test_a_picture_may_be_called_like_a_part_of_the_file(tmp_path: Path) -> None:
    picture = Picture("figures", "Figures", np.ones((2, 2)), "", "signed", (1.0, 1.0))
    write_results(tmp_path / "r.h5", Results("virtual", Outcome("good", "", {"a": 1.0}, (picture,)), {}))
    found = read_results(tmp_path / "r.h5").outcome
    assert (found.figures, found.pictures[0].title) == ({"a": 1.0}, "Figures")
