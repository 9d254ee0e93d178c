"""Whatever a file holds, inspect says what is known of it and what is not: no traceback, nothing passed in silence."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from flows.cli.app import app
from flows.inspect import Inspection, inspect_file
from stem4d.verdict import QualityResult
from tests.flows import inspect_world as world

WANTED: dict[str, Sequence[tuple[str, str, str]]] = {
    "no calibration": (
        ("knowledge", "not_measurable", "Give --mrad-per-pixel, --step-nm, --beam-energy-kev"),
        ("sampling.overlap", "not_measurable", "the scan step, the defocus, the angle per pixel"),
        ("drift.rate", "not_measurable", "the scan step is not known"),
        ("saturation.disk", "not_measurable", "Give --full-scale"),
        ("saturation.rate", "not_measurable", "Give --dwell-us and --max-count-rate-hz (or --detector)"),
    ),
    "one pattern": (
        ("frames.missing", "pass", "One frame was recorded."),
        ("descan.range", "not_measurable", "a plane needs 6 positions"),
        ("scan.jitter", "not_measurable", "12 rows and columns"),
        ("beam.dropouts", "not_measurable", "more positions"),
    ),
    "one row": (
        ("descan.range", "not_measurable", "one position along scan y: its slope is unknown"),
        ("scan.flyback", "not_measurable", "12 rows and columns"),
        ("beam.drift", "not_measurable", "four rows"),
    ),
    "no full scale": (
        ("saturation.mask", "not_measurable", "full scale"),
        ("saturation.disk", "not_measurable", "full scale"),
        ("saturation.bragg", "not_measurable", "full scale"),
        ("saturation.wrap", "not_measurable", "Give --full-scale"),
    ),
    "empty beam": (
        ("dose.electrons", "fail", "blanked, lost, or missed the detector"),
        ("centring.offset", "not_measurable", "no disk was found"),
        ("descan.range", "not_measurable", "no position has a centre"),
        ("beam.dropouts", "not_measurable", "not one electron"),
    ),
    "noise only": (
        ("centring.offset", "not_measurable", "no disk was found"),
        ("dose.electrons", "not_measurable", "whether that is the beam is not known"),
        ("beam.dropouts", "not_measurable", "whether that is the beam is not known"),
        ("descan.residual", "not_measurable", "whether that is the beam is not known"),
    ),
    "mask over the disk": (
        ("centring.offset", "not_measurable", "no disk was found"),
        ("pixels.dead", "not_measurable", "0% of the disk's"),
    ),
    "wrap-around": (("saturation.wrap", "warn", "begin again at 0"),),
    "integrating": (
        ("frames.negative", "pass", "% of the values lie below zero"),
        ("dose.electrons", "not_measurable", "Give --counts-per-electron"),
        ("centring.offset", "pass", "off the middle"),
    ),
    "NaN": (
        ("frames.invalid", "warn", "3 of 192 frames hold values that are no numbers"),
        ("pixels.invalid", "warn", "3 of 1024 pixels hold no number"),
        ("frames.missing", "pass", "All 192 frames"),
        ("centring.offset", "pass", "off the middle"),
        ("descan.range", "pass", "moves"),
    ),
    "disk without numbers": (
        ("pixels.invalid", "warn", "left out like bad pixels"),
        ("centring.offset", "not_measurable", "no disk was found"),
        ("dose.electrons", "not_measurable", "Electrons are not known"),
    ),
    "fractions of one": (
        ("dose.electrons", "not_measurable", "one electron adds about 0.0011"),
        ("centring.offset", "pass", "off the middle"),
    ),
    "missing frames": (
        ("frames.missing", "fail", "17 of 192 frames are missing, 1 whole rows among them"),
        ("frames.duplicate", "pass", "No position"),
    ),
}
"""Metric, verdict and what a person reads; every result of the metric has them."""


def made(tmp_path: Path, case: str) -> Path:
    if case == "missing frames":
        return world.write_ours(tmp_path / "ours.h5", (5, *range(32, 48)))
    np.save(tmp_path / "mask.npy", world.mask_over_the_disk())
    alias = {"no full scale": "no calibration", "mask over the disk": "no calibration"}
    return world.write(tmp_path / "theirs.h5", world.FILES[alias.get(case, case)]())


@pytest.fixture
def printed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The command's answer for a case, as a person and as a program gets it."""
    monkeypatch.setenv("NIGHTBEAM_HOME", str(tmp_path / "home"))

    def ask(case: str, *options: str) -> tuple[str, list[dict[str, Any]], dict[str, Any]]:
        command = ["inspect", str(made(tmp_path, case)), *options]
        text, facts = (CliRunner().invoke(app, [*command, *more]) for more in ((), ("--json",)))
        for told in (text, facts):
            assert told.exit_code == 3, told.output
            assert "Traceback" not in told.output
        answer = json.loads(facts.stdout)
        return text.stdout, answer["quality"], answer

    return ask


FAST = ("NaN", "missing frames")
"""Cases of every run of the tests: each reads its file in a process of its own, twice."""


@pytest.mark.parametrize(
    "case", [pytest.param(case, marks=() if case in FAST else pytest.mark.slow) for case in WANTED]
)
def test_a_verdict_says_what_is_known_and_what_is_not(case: str, printed: Any, tmp_path: Path) -> None:
    options = ("--mask", str(tmp_path / "mask.npy")) if case == "mask over the disk" else ()
    text, quality, _ = printed(case, *options)
    for metric, verdict, says in WANTED[case]:
        found = [one for one in quality if one["metric"] == metric]
        assert found, f"{metric} is not told"
        for one in found:
            assert one["verdict"] == verdict, one
            assert says in one["message"]
        assert any(line.startswith(verdict) and metric in line and says in line for line in text.splitlines())


@pytest.mark.slow
def test_a_recording_without_a_single_number_is_not_measurable_throughout(printed: Any) -> None:
    text, quality, answer = printed("all NaN")
    assert {one["verdict"] for one in quality} == {"not_measurable"}
    assert set(answer["verdicts"].values()) == {"not_measurable"}
    for one in quality:
        says = "192 of 192 frames hold values" if one["metric"] == "frames.invalid" else "not one value"
        assert says in one["message"], one
    assert "all are NaN or infinite" in text


def figures(found: Inspection) -> dict[tuple[str, str | None], QualityResult]:
    return {(one.metric, one.analysis): one for one in found.results}


@pytest.mark.slow
def test_numbers_are_judged_as_if_those_that_are_none_had_not_been_there(tmp_path: Path) -> None:
    """Against the same recording whole: two single values and one of 192 frames change nothing that matters."""
    found = inspect_file(world.write(tmp_path / "nan.h5", world.with_nan()), counts_per_electron=world.ADU)
    whole = inspect_file(world.write(tmp_path / "whole.h5", world.integrated()), counts_per_electron=world.ADU)
    assert (found.maps.frames, whole.maps.frames) == (191, 192)
    assert found.maps.unusable is not None
    assert np.argwhere(found.maps.unusable).tolist() == [[5, 6]]
    there = found.maps.recorded
    # One dark pixel and a value in the disk are gone: at most what fell on them, and rounding.
    assert np.abs(found.maps.total[there].astype(int) - whole.maps.total[there].astype(int)).max() <= 2 + world.LEVEL
    assert found.disk.centre_px == pytest.approx(whole.disk.centre_px, abs=0.01)
    left, right = figures(found), figures(whole)
    for metric in ("centring.offset", "descan.range"):
        assert left[metric, "com"].verdict is right[metric, "com"].verdict


@pytest.mark.slow
def test_electrons_of_an_integrating_detector_are_those_that_fell(tmp_path: Path) -> None:
    path = world.write(tmp_path / "float.h5", world.integrated())
    electrons = world.counts().sum((2, 3))
    told = inspect_file(path, counts_per_electron=world.ADU)
    # 1024 pixels add their readout noise to a frame, and its total is rounded.
    noise = world.READ_NOISE / world.ADU * 32
    assert np.abs(told.maps.total.astype(float) - electrons).max() < 5 * noise + 0.5
    assert figures(told)["dose.electrons", None].value == pytest.approx(
        electrons.mean(), abs=5 * noise / np.sqrt(192) + 0.5
    )
    assert figures(told)["dose.electrons", None].verdict.value == "pass"
    guessed = inspect_file(path).counts_per_electron
    # 76 lit pixels with 96 pairs each know a variance to sqrt(2 / 7300) = 1.7 %; readout noise adds 1.6 %.
    assert guessed == pytest.approx(world.ADU, rel=0.07)


@pytest.mark.parametrize(
    "dtype", ["float32", *(pytest.param(one, marks=pytest.mark.slow) for one in ("float64", "int32"))]
)
def test_whole_numbers_are_counts_whatever_they_are_stored_as(dtype: str, tmp_path: Path) -> None:
    plain = inspect_file(world.write(tmp_path / "a.h5", world.counts()), full_scale=4095)
    other = inspect_file(world.write(tmp_path / "b.h5", world.counts().astype(dtype)), full_scale=4095)
    assert other.counts_per_electron is None
    np.testing.assert_array_equal(plain.maps.sum_pattern, other.maps.sum_pattern)
    assert [one.model_dump() for one in plain.results] == [one.model_dump() for one in other.results]


def test_a_wrong_mask_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NIGHTBEAM_HOME", str(tmp_path / "home"))
    path = world.write(tmp_path / "a.h5", world.counts((2, 2)))
    (tmp_path / "text.npy").write_text("no array")
    np.save(tmp_path / "shape.npy", np.zeros((3, 3), bool))
    np.save(tmp_path / "objects.npy", np.array([{}], object), allow_pickle=True)
    np.save(tmp_path / "all.npy", np.ones((world.SIDE, world.SIDE), bool))
    for name in ("text", "shape", "objects", "all", "gone"):
        told = CliRunner().invoke(app, ["inspect", str(path), "--mask", str(tmp_path / f"{name}.npy")])
        assert told.exit_code == 2, told.output
        assert "Traceback" not in told.output


@pytest.mark.slow
def test_the_counting_rate_is_judged_with_what_the_user_supplies(tmp_path: Path) -> None:
    path = world.write(tmp_path / "a.h5", world.counts())
    for limit, verdict in ((1e9, "pass"), (1e4, "fail")):
        known = {"dwell_time_us": 1000.0, "max_count_rate_per_px_hz": limit}
        found = figures(inspect_file(path, known=known))["saturation.rate", "com"]
        assert found.verdict.value == verdict
        # The brightest tenth of 1000 Hz times 20 counts lies within their noise of it.
        assert found.value == pytest.approx(2e4, rel=0.3)


@pytest.mark.slow
def test_a_known_detector_gives_the_counting_rate(printed: Any) -> None:
    _, quality, _ = printed("no calibration", "--detector", "arina", "--dwell-us", "100")
    rates = [one for one in quality if one["metric"] == "saturation.rate"]
    assert {one["verdict"] for one in rates} == {"pass"}
    assert all("not verified" in one["message"] for one in rates)
    told = CliRunner().invoke(app, ["inspect", "any.h5", "--detector", "arena"])
    assert told.exit_code == 2
    assert "arina" in told.stderr


@pytest.mark.slow
def test_every_option_that_is_named_exists(printed: Any) -> None:
    text, _, _ = printed("integrating")
    named = {word.strip(".,()") for word in text.split() if word.startswith("--")}
    assert len(named) >= 8
    helped = CliRunner().invoke(app, ["inspect", "--help"], env={"COLUMNS": "200"}).output
    assert {name for name in named if name not in helped} == set()
