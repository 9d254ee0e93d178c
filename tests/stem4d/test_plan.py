"""Plans are strict: what is not a sane, finite, known value is refused, and names cannot become other paths."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from rules_world import ANALYSES, document, plan

from stem4d.model import canonical_json
from stem4d.plan import Plan

NUMBERS = {
    "sample.thickness_nm": 40,
    "sample.fluence_budget_e_per_a2": 30,
    "analyses.0.target_d_a": 3.04,
    "optics.beam_energy_kev": 300,
    "optics.convergence_semi_angle_mrad": 4.0,
    "optics.probe_current_pa": 58,
    "optics.camera_length_mm": 1477,
    "scan.step_nm": 2.0,
    "exposure.dwell_time_us": 33.3,
    "detector.pixel_pitch_um": 100,
}
HOSTILE = [
    '"1e400"',
    "1e400",
    "-1e400",
    "NaN",
    "Infinity",
    "-Infinity",
    "true",
    "null",
    "[]",
    '"5"',
    "-1",
    "0",
    "1e308",
]


def refusal(text: str) -> ValidationError:
    with pytest.raises(ValidationError) as caught:
        Plan.model_validate_json(text)
    return caught.value


def with_raw(path: str, raw: str) -> str:
    """Case B with the JSON text of one value replaced: JSON writers would not write NaN or 1e400."""
    return json.dumps(document("case_b", {path: "HERE"})).replace('"HERE"', raw)


@pytest.mark.parametrize("raw", HOSTILE)
@pytest.mark.parametrize("path", sorted(NUMBERS))
def test_hostile_number_is_refused_at_its_own_field(path: str, raw: str) -> None:
    first = refusal(with_raw(path, raw)).errors()[0]
    wanted = {int(part) if part.isdigit() else part for part in path.split(".")}
    # The place of an analysis has its kind in it as well.
    assert wanted <= set(first["loc"])


@pytest.mark.parametrize("path", sorted(NUMBERS))
def test_the_same_fields_take_their_own_value(path: str) -> None:
    assert Plan.model_validate_json(with_raw(path, json.dumps(NUMBERS[path]))) == plan("case_b")


@pytest.mark.parametrize(
    ("path", "value", "says"),
    [
        ("exposure.dwell_time_us", -33.3, "greater than"),
        ("scan.shape", [10**9, 10**9], "less than or equal to 65536"),
        ("scan.shape", [65536, 65536], "2**31"),
        ("scan.shape", [0, 8], "greater than"),
        ("scan.shape", [8.5, 8], "integer"),
        ("scan.shape", [8, 8, 8], "at most 2"),
        ("scan.shape", [True, 8], "integer"),
        ("scan.step", 2.0, "Extra"),
        ("sample.colour", "red", "Extra"),
        ("exposure.exposure_time_us", 34.0, "dwell_time_us"),
        ("exposure.passes", 0, "greater than"),
        ("exposure.passes", 1.5, "integer"),
        ("detector.bit_depth", 0, "greater than"),
        ("detector.bit_depth", 64, "less than"),
        ("detector.shape", [192, 1_000_000], "less than"),
        ("sample.sensitivity", "tough", "vitrified"),
        ("analyses", [], "at least 1"),
        ("analyses.0.kind", "magic", "ptychography"),
        ("analyses.0.model", "multislice", "slice_thickness_nm"),
        ("format_version", 2, "1"),
        ("format_version", "1", "1"),
        ("title", "t" * 201, "200"),
        ("quality.remedies", ["pray"], "reduce_dwell"),
        ("quality.remedies", ["skip", "settle", "skip"], "skip stands more than once"),
        ("quality.max_attempts", 0, "greater than"),
        ("quality.max_mending_min", 0, "greater than"),
        ("sample.spare_areas", ["a", "a"], "spare_areas must differ"),
        ("sample.spare_areas", ["../a"], "pattern"),
    ],
)
def test_a_bad_value_says_what_is_allowed(path: str, value: Any, says: str) -> None:
    changes = {"quality": {}} | {path: value}
    assert says in str(refusal(json.dumps(document("case_b", changes))))


@pytest.mark.parametrize(
    ("detectors", "says"),
    [
        ([{"name": "bf", "inner_mrad": 20, "outer_mrad": 20}], "outer_mrad must be larger"),
        ([{"name": "bf", "inner_mrad": 0, "outer_mrad": 20}] * 17, "at most 16"),
        ([{"name": "bf", "inner_mrad": 0, "outer_mrad": 20}] * 2, "bf stands more than once"),
        ([], "at least 1"),
    ],
)
def test_bad_virtual_detectors(detectors: list[dict[str, Any]], says: str) -> None:
    assert says in str(refusal(json.dumps(document("virtual_bf_df", {"analyses.0.detectors": detectors}))))


BAD_NAMES = {
    "dots": "..",
    "one dot": ".",
    "upwards": "../../etc/x",
    "absolute": "/etc/x",
    "option": "-rf",
    "too long": "n" * 300,
    "one too long": "n" * 65,
    "newline inside": "a\nb",
    "newline at the end": "a\n",
    "carriage return": "a\r",
    "right to left": "a\u202eb",
    "zero width": "a\u200bb",
    "nul": "a\x00b",
    "escape": "a\x1b[31m",
    "trailing dot": "a.",
    "leading dot": ".a",
    "space": "a b",
    "backslash": "a\\b",
    "quote": "a'b",
    "double quote": 'a"b',
    "semicolon": "a;b",
    "letter that only looks like one": "\u0430bc",
    "umlaut": "prüfung",
    "empty": "",
    "number": 7,
}


@pytest.mark.parametrize("path", ["name", "sample.name", "sample.area", "detector.name"])
@pytest.mark.parametrize("name", BAD_NAMES.values(), ids=BAD_NAMES.keys())
def test_bad_name_is_refused(path: str, name: object) -> None:
    refusal(json.dumps(document("case_b", {path: name})))


@pytest.mark.parametrize("name", ["a", "A1", "case_b", "2026-11-22.night", "n" * 64, "a--b", "a_"])
def test_good_name_is_taken(name: str) -> None:
    assert plan("case_b", {"name": name}).name == name


@given(st.text(max_size=80))
def test_no_accepted_name_can_leave_its_folder(name: str) -> None:
    try:
        accepted = plan("case_b", {"name": name}).name
    except ValidationError:
        return
    assert accepted == name
    assert name.isascii()
    assert name.isprintable()
    assert not set(name) & set("/\\ '\"")
    assert name[0] not in ".-"
    assert name[-1] != "."


@pytest.mark.parametrize("name", [*ANALYSES, "case_a", "case_b"])
def test_canonical_json_gives_the_same_plan_again(name: str) -> None:
    once = plan(name)
    text = canonical_json(once)
    assert Plan.model_validate_json(text) == once
    assert canonical_json(Plan.model_validate_json(text)) == text


def test_plan_is_frozen() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        plan("case_b").scan.step_nm = 1.0  # type: ignore[misc]


def test_python_values_are_not_coerced() -> None:
    plain = plan("case_b").model_dump()
    assert Plan.model_validate(plain) == plan("case_b")
    for wrong in ("300", True):
        with pytest.raises(ValidationError):
            Plan.model_validate(plain | {"optics": plain["optics"] | {"beam_energy_kev": wrong}})


def test_derived_figures() -> None:
    case_a = plan("case_a")
    # 100 um over 188.6 mm, and the disk of 27.6 mrad on it.
    assert case_a.mrad_per_pixel == pytest.approx(0.530223, rel=1e-6)
    assert case_a.disk_radius_px == pytest.approx(52.0536, rel=1e-6)
    assert plan("case_a", {"detector.mrad_per_pixel": 0.5}).mrad_per_pixel == 0.5
    assert case_a.scan.field_nm == pytest.approx((26.994, 50.985))
    assert case_a.exposure.live_time_us == 33.3
    assert plan("case_a", {"exposure.exposure_time_us": 30.0}).exposure.live_time_us == 30.0
    assert plan("case_a", {"detector.bit_depth": 6}).detector.full_scale == 63
