"""Numbers, units and times are said as a person would, and what was not measured says so."""

from datetime import UTC, datetime, timedelta, timezone
from math import inf, nan

import pytest
from hypothesis import given
from hypothesis import strategies as st

from web.report.tables import label_and_unit, named, plain
from web.report.text import byte_size, duration, listed, number, places, quantity, time_utc


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (None, "not measured"),
        (nan, "not measured"),
        (inf, "not measured"),
        (0, "0"),
        (0.0, "0"),
        (3, "3"),
        (1234567, "1\u202f234\u202f567"),
        (-2, "−2"),
        (1.5, "1.5"),
        (0.28000001, "0.28"),
        (999.96, "1\u202f000"),
        (10000.0, "10\u202f000"),
        (1e6, "10⁶"),
        (1.234e6, "1.234 × 10⁶"),
        (3.1e-4, "3.1 × 10⁻⁴"),
        (-0.5, "−0.5"),
    ],
)
def test_number(value, said):
    assert number(value) == said


@given(st.floats(min_value=1e-30, max_value=1e30))
def test_number_keeps_four_digits(value):
    said = number(value).replace("\u202f", "")
    mantissa, _, power = said.partition(" × ")
    if mantissa.startswith("10") and not power and set(mantissa[2:]) <= set("⁻⁰¹²³⁴⁵⁶⁷⁸⁹") and len(mantissa) > 2:
        mantissa, power = "1", mantissa
    exponent = int(power[2:].translate(str.maketrans("⁻⁰¹²³⁴⁵⁶⁷⁸⁹", "-0123456789"))) if power else 0
    # Half of the last of four digits, 0.05 %, and rounding.
    assert float(mantissa) * 10.0**exponent == pytest.approx(value, rel=5.1e-4)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((1.102, "mrad", 0.004), "1.1020 ± 0.0040\u00a0mrad"),
        ((0.00900533, "", 0.00269), "0.0090 ± 0.0027"),
        ((10.342240, "deg", 2.877), "10.3 ± 2.9°"),
        ((12345.6, "pA", 123.0), "12\u202f350 ± 120\u00a0pA"),
        ((-0.0001, "nm", 0.5), "0.00 ± 0.50\u00a0nm"),
        ((5.0, "", 0.0), "5 ± 0"),
        ((5400.0, "e/A2"), "5\u202f400\u00a0e⁻/Å²"),
        ((33.3, "us"), "33.3\u00a0µs"),
        ((12.5, "deg"), "12.5°"),
        ((2e-4, "nm", 1e-5), "(2.00 ± 0.10) × 10⁻⁴\u00a0nm"),
        ((None, "nm", 0.1), "not measured"),
        ((3.0, "nm", nan), "3\u00a0nm"),
    ],
)
def test_quantity(arguments, said):
    assert quantity(*arguments) == said


@pytest.mark.parametrize(
    ("count", "said"),
    [
        (None, "not measured"),
        (0, "0\u00a0bytes"),
        (999, "999\u00a0bytes"),
        (1000, "1\u00a0kB"),
        (283115520, "283\u00a0MB"),
    ],
)
def test_byte_size(count, said):
    assert byte_size(count) == said


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(None, "not measured"), (0.42, "0.42 s"), (59.96, "1 min 00 s"), (63.2, "1 min 03 s"), (3599.7, "1 h 00 min")],
)
def test_duration(seconds, said):
    assert duration(seconds).replace("\u00a0", " ") == said


def test_times_are_utc_whatever_their_zone():
    moment = datetime(2026, 11, 22, 23, 4, 13, tzinfo=timezone(timedelta(hours=2)))
    assert time_utc(moment) == time_utc(moment.astimezone(UTC)) == "2026-11-22 21:04:13 UTC"
    assert time_utc(None) == "not measured"


def test_listed():
    assert [listed(items) for items in ([], ["a"], ["a", "b"], ["a", "b", "c"])] == ["", "a", "a and b", "a, b and c"]


@pytest.mark.parametrize(
    ("name", "label", "unit"),
    [
        ("dwell_time_us", "dwell time", "µs"),
        ("fluence_budget_e_per_a2", "fluence budget", "e/Å²"),
        ("max_drift_nm_per_min", "max drift", "nm/min"),
        ("mrad_per_pixel", "angle per pixel", "mrad/px"),
        ("beam_energy_kev", "beam energy", "keV"),
        ("target_d_a", "target d", "Å"),
        ("descan_mrad_per_nm", "descan", "mrad/nm"),
        ("passes", "passes", ""),
    ],
)
def test_vocabulary_names_become_words_and_a_unit(name, label, unit):
    assert label_and_unit(name) == (label, unit)


@pytest.mark.parametrize(
    ("value", "unit", "said"),
    [
        (None, "px", "not measured"),
        (True, "", "yes"),
        ([46.02, 49.51], "px", "(46.02, 49.51)\u00a0px"),
        ([[1.0, 0.5], [0.0, 2.0]], "mrad/nm", "[1, 0.5; 0, 2]\u00a0mrad/nm"),
        ({"dwell_time_us": 50.0, "passes": 2}, "", "dwell time 50\u00a0µs; passes 2"),
        ({"centre_px": [1.5, None]}, "", "centre (1.5, not measured)\u00a0px"),
        ("text", "nm", "text"),
    ],
)
def test_any_stored_value_is_said_in_words(value, unit, said):
    assert plain(value, unit) == said


def test_a_named_value_never_says_none():
    assert named("drift_nm_per_min", None) == "drift not measured"


def test_places_name_fifty_pixels_and_count_the_others() -> None:
    assert places([(2, 3), (4, 5)]) == "(2, 3), (4, 5)"
    said = places([(0, x) for x in range(53)])
    assert said.endswith("(0, 49) and 3 more")
    assert said.count("(") == 50
