"""What was worked out once is not worked out again, and anything that could change it is."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stem4d.analyse.method import Given, Method, NotPossible, Outcome, Parts, Picture, Rows
from stem4d.analyse.methods import METHODS
from stem4d.model import Strict
from tasks.parts import Job, ranges_of
from tasks.results import _numbers, result_of
from tests.storage.storage_world import counts, spec_at, written

GIVEN = Given(200.0, 20.0, 1.25, (0.5, 0.5), np.array([2.5, 3.0]), np.zeros((6, 7), np.bool_))


class Options(Strict):
    offset: float = 0.0


CALLS: list[str] = []


def prepare(given: Given, options: Options, rows: Rows) -> Parts:
    CALLS.append("prepare")
    if options.offset < 0:
        raise NotPossible("there is no lattice")
    return {"offset": np.array(options.offset)}


def part(given: Given, options: Options, rows: Rows, prepared: Parts, first: int, stop: int) -> Parts:
    total = np.zeros((stop - first, rows.scan_shape[1]))
    for positions, frames in rows.read(first, stop):
        total.reshape(-1)[positions - first * rows.scan_shape[1]] = frames.sum(axis=(1, 2))
    return {"total": total + prepared["offset"]}


def finish(given: Given, options: Options, prepared: Parts, parts: Parts) -> Outcome:
    picture = Picture("total", "Total", parts["total"], "counts", "intensity", (0.5, 0.5))
    return Outcome("good", "summed", {"mean": float(parts["total"].mean())}, (picture,))


@pytest.fixture
def job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Job]:
    monkeypatch.setitem(METHODS, "total", Method("total", Options, prepare, part, finish))
    spec = spec_at(tmp_path / "data.h5")
    written(spec)
    CALLS.clear()
    return Job(str(spec.path), "total", GIVEN, Options())


def test_the_outcome_is_that_of_the_frames(job: Job, tmp_path: Path) -> None:
    made = result_of(job, ["a" * 64], tmp_path / "results")
    wanted = counts(spec_at(tmp_path / "data.h5")).sum(axis=(1, 2)).reshape(3, 5)
    np.testing.assert_array_equal(made.outcome.pictures[0].values, wanted)
    assert made.path.parent == tmp_path / "results"


def test_the_same_is_not_worked_out_twice(job: Job, tmp_path: Path) -> None:
    first = result_of(job, ["a" * 64], tmp_path)
    second = result_of(job, ["a" * 64], tmp_path)
    assert (first.again, second.again, len(CALLS)) == (True, False, 1)
    assert second.outcome.figures == first.outcome.figures
    assert result_of(job, ["a" * 64], tmp_path, again=True).again


@pytest.mark.parametrize("change", ["options", "given", "descan", "input", "damage"])
def test_what_may_change_a_result_has_it_worked_out_again(job: Job, tmp_path: Path, change: str) -> None:
    first = result_of(job, ["a" * 64], tmp_path)
    other: dict[str, Any] = {
        "options": replace(job, options=Options(offset=1.0)),
        "given": replace(job, given=replace(GIVEN, mrad_per_pixel=1.26)),
        "descan": replace(job, given=replace(GIVEN, origin_px=np.zeros((2, 3, 5)))),
    }
    if change == "damage":
        first.path.write_bytes(b"nothing")
    made = result_of(other.get(change, job), ["b" * 64 if change == "input" else "a" * 64], tmp_path)
    assert made.again
    assert (made.path == first.path) == (change == "damage")


def test_what_is_not_possible_is_a_result_with_its_reason(job: Job, tmp_path: Path) -> None:
    job = replace(job, options=Options(offset=-1.0))
    made = result_of(job, ["a" * 64], tmp_path)
    assert (made.outcome.verdict, made.outcome.reason) == ("not_possible", "there is no lattice")
    assert not result_of(job, ["a" * 64], tmp_path).again


def test_ranges_are_whole_rows_and_bounded() -> None:
    ranges = ranges_of((1000, 100), (256, 256), 2)
    assert ranges[0] == (0, 20)  # 100 x 256 x 256 x 2 B = 13 MB a row, 256 MiB a range
    assert [first for first, _ in ranges[1:]] == [stop for _, stop in ranges[:-1]]
    assert ranges[-1][1] == 1000
    assert ranges_of((2, 10**6), (256, 256), 2) == [(0, 1), (1, 2)]


@pytest.mark.parametrize(("value", "verdict"), [(1.0, "good"), (float("nan"), "doubtful"), (float("inf"), "doubtful")])
def test_nothing_is_good_whose_figures_are_no_numbers(value: float, verdict: str) -> None:
    told = _numbers(Outcome("good", "All is well.", {"deflection_mrad": value}))
    assert told.verdict == verdict
    assert ("deflection_mrad" in told.reason) == (verdict == "doubtful")
