"""What a person says of foreign data wins over the file, and what nobody says is asked for."""

from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from stem4d.analyse.known import UNCERTAIN, Known, given_of, with_known
from stem4d.analyse.method import Given
from stem4d.errors import BadInput

FACTS = {"beam_energy_kev": 200.0, "convergence_semi_angle_mrad": 20.0, "mrad_per_pixel": 1.0, "scan_step_nm": 0.5}


def known(**more: Any) -> Known:
    return Known.model_validate({"format_version": 1, **more})


def test_the_file_is_believed_and_the_person_wins() -> None:
    given = given_of(known(mrad_per_pixel=1.1, bad_pixels=((1, 2),)), FACTS, (8, 8), (3.5, 3.5))
    assert (given.beam_energy_kev, given.mrad_per_pixel, given.scan_step_nm) == (200.0, 1.1, (0.5, 0.5))
    np.testing.assert_array_equal(given.origin_px, [3.5, 3.5])
    assert np.argwhere(given.bad_pixels).tolist() == [[1, 2]]


def test_the_rotation_that_a_scan_was_told_is_not_that_of_the_detector() -> None:
    assert given_of(known(), {**FACTS, "scan_rotation_deg": 30.0}, (8, 8), (3.5, 3.5)).scan_rotation_deg is None
    assert given_of(known(scan_rotation_deg=12.0), FACTS, (8, 8), (3.5, 3.5)).scan_rotation_deg == 12.0


def test_uncertainties_go_by_the_names_of_the_document() -> None:
    said = known(uncertainty={"centre_px": 0.2, "mrad_per_pixel": 0.01})
    assert given_of(said, FACTS, (8, 8), (3.5, 3.5)).uncertainty == {"origin_px": 0.2, "mrad_per_pixel": 0.01}
    assert set(UNCERTAIN) <= set(Known.model_fields)


@pytest.mark.parametrize(
    ("said", "taken"),
    [({}, None), ({"scan_rotation_deg": 3.0}, False), ({"scan_rotation_deg": 3.0, "mirrored": True}, True)],
)
def test_the_handedness_is_unknown_where_nothing_is_said_of_how_the_detector_lies(said: Any, taken: Any) -> None:
    assert given_of(known(**said), FACTS, (8, 8), (3.5, 3.5)).mirrored is taken


@pytest.mark.parametrize(("said", "file", "taken"), [(None, 63, 63), (255, 63, 255), (None, None, None)])
def test_full_scale_is_the_files_unless_the_person_says(said: int | None, file: int | None, taken: int | None) -> None:
    more = {} if said is None else {"full_scale": said}
    assert given_of(known(**more), FACTS, (8, 8), (3.5, 3.5), file).full_scale == taken


def test_what_is_said_of_a_run_goes_over_what_it_knew_with_its_uncertainty() -> None:
    bad = np.zeros((8, 8), bool)
    bad[1, 1] = True
    held = {"scan_rotation_deg": 0.3, "mrad_per_pixel": 0.01}
    run = Given(200.0, 20.0, 1.0, (0.5, 0.6), np.array([3.0, 4.0]), bad, 10.0, True, 30.0, uncertainty=held)
    over = with_known(run, known(scan_rotation_deg=12.0, centre_px=(2.0, 2.5), uncertainty={"defocus_nm": 2.0}))
    assert (over.scan_rotation_deg, over.mirrored, over.defocus_nm) == (12.0, False, 30.0)
    assert over.origin_px.tolist() == [2.0, 2.5]
    assert over.bad_pixels is bad
    assert over.scan_step_nm == (0.5, 0.6)
    assert over.uncertainty == {"mrad_per_pixel": 0.01, "defocus_nm": 2.0}
    assert np.argwhere(with_known(run, known(bad_pixels=((2, 3),))).bad_pixels).tolist() == [[1, 1], [2, 3]]
    assert with_known(run, known(mirrored=False)).scan_rotation_deg == 10.0
    with pytest.raises(BadInput, match="centre_px"):
        with_known(run, known(centre_px=(9.0, 1.0)))


def test_steps_may_differ_by_axis() -> None:
    assert given_of(known(scan_step_nm=(0.5, 0.6)), FACTS, (8, 8), (3.5, 3.5)).scan_step_nm == (0.5, 0.6)


@pytest.mark.parametrize("name", FACTS)
def test_what_nobody_says_is_asked_for(name: str) -> None:
    facts = {each: value for each, value in FACTS.items() if each != name}
    with pytest.raises(BadInput) as told:
        given_of(known(), facts, (8, 8), (3.5, 3.5))
    assert told.value.field == name


@pytest.mark.parametrize(
    ("said", "centre", "field"),
    [
        ({"centre_px": (9.0, 1.0)}, None, "centre_px"),
        ({}, None, "centre_px"),
        ({"bad_pixels": ((8, 0),)}, (3.0, 3.0), "bad_pixels"),
        ({"bad_pixels": ((-1, 0),)}, (3.0, 3.0), "bad_pixels"),
        *(({"uncertainty": {name: 1.0}}, (3.0, 3.0), "uncertainty") for name in ("defocus", "origin_px", "bad_pixels")),
    ],
)
def test_what_cannot_be_is_refused(said: dict[str, Any], centre: Any, field: str) -> None:
    with pytest.raises(BadInput) as told:
        given_of(known(**said), FACTS, (8, 8), centre)
    assert told.value.field == field


@pytest.mark.parametrize("said", [{"mrad_per_pixel": 0.0}, {"defocus_nm": float("nan")}, {"dose": 1.0}])
def test_the_document_is_strict(said: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        known(**said)


@pytest.mark.parametrize(
    ("name", "value"), [("mrad_per_pixel", 2000.0), ("scan_step_nm", 1e-9), ("convergence_semi_angle_mrad", 1e9)]
)
def test_figures_that_are_slips_of_units_are_refused(name: str, value: float) -> None:
    with pytest.raises(ValidationError, match=name):
        Known(format_version=1, **{name: value})
