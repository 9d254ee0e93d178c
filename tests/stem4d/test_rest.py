"""What becomes of a target that was broken off: a pass is repeated only where nothing had been exposed."""

from pathlib import Path

import pytest

from stem4d.approach import Approach
from stem4d.plan import Plan
from stem4d.predict import predict
from stem4d.rest import rest_of
from storage.documents import load_model

PLAN = load_model(
    Path(__file__).parents[2] / "plans" / "demo" / "1_overview.yaml",
    Plan,
    ["exposure.passes=4", "sample.spare_areas=[flake-1, grain-2]", "sample.fluence_budget_e_per_a2=1e6"],
)
APPROACHED = PLAN.model_copy(update={"approach": Approach(thumbnail="lamella.h5")})
PASS = predict(PLAN).local_fluence_e_per_a2
MUCH = {"flake-1": 1e6, "grain-2": 1e6}
TOLERANCE = 0.01 * 1e6  # a hundredth of the budget


def test_what_was_never_exposed_is_run_as_a_whole() -> None:
    rest = rest_of(PLAN, 0, lit=False, left_e_per_a2=0, spare_left_e_per_a2={})
    assert rest.plan == PLAN


def test_what_is_there_is_not_exposed_again() -> None:
    rest = rest_of(PLAN, 4, lit=True, left_e_per_a2=1e6, spare_left_e_per_a2=MUCH)
    assert (rest.plan, rest.whole) == (None, True)


@pytest.mark.parametrize(
    ("plan", "survey", "same"), [(APPROACHED, "r1/survey-2.h5", True), (APPROACHED, None, False), (PLAN, "x.h5", False)]
)
def test_the_rest_goes_to_the_same_field_only_where_its_approach_finds_it_again(
    plan: Plan, survey: str | None, same: bool
) -> None:
    rest = rest_of(plan, 1, lit=True, left_e_per_a2=1e6, spare_left_e_per_a2=MUCH, survey=survey)
    assert rest.plan is not None
    assert rest.plan.exposure.passes == 3
    assert rest.plan.sample.area == ("lamella-1" if same else "flake-1")
    assert rest.plan.sample.spare_areas == (("flake-1", "grain-2") if same else ("grain-2",))
    if same:
        # Where the field was when it was exposed, and not where the first thumbnail has it.
        assert rest.plan.approach is not None
        assert rest.plan.approach.thumbnail == survey
    # Still a plan like any other.
    assert Plan.model_validate_json(rest.plan.model_dump_json()) == rest.plan


def test_the_same_field_needs_the_dose_of_the_rest() -> None:
    def area(left: float, ratio: float = 1.0) -> str:
        rest = rest_of(
            APPROACHED,
            1,
            lit=True,
            left_e_per_a2=left,
            spare_left_e_per_a2=MUCH,
            survey="r1/survey-2.h5",
            current_ratio=ratio,
        )
        assert rest.plan is not None
        return rest.plan.sample.area

    needed = 3 * PASS - TOLERANCE
    assert area(needed * 1.001) == "lamella-1"
    assert area(needed * 0.999) == "flake-1"
    assert area(needed * 1.001, ratio=1.1) == "flake-1"


def test_the_first_spare_area_that_bears_it_is_taken() -> None:
    rest = rest_of(PLAN, 1, lit=True, left_e_per_a2=0, spare_left_e_per_a2={"flake-1": 0.0, "grain-2": 3 * PASS})
    assert rest.plan is not None
    assert rest.plan.sample.area == "grain-2"
    assert "nothing finds the field on lamella-1 again within half a step" in rest.reason


def test_without_a_place_it_is_given_up_with_the_reason() -> None:
    rest = rest_of(PLAN, 2, lit=True, left_e_per_a2=1e6, spare_left_e_per_a2=dict.fromkeys(MUCH, 0.0))
    assert rest.plan is None
    assert not rest.whole
    assert rest.reason.startswith("passes 3 to 4 of 4 not exposed: nothing finds the field on lamella-1 again")
    assert rest.reason.endswith("none of its spare areas has the dose left")
    alone = PLAN.model_copy(update={"sample": PLAN.sample.model_copy(update={"spare_areas": ()})})
    assert rest_of(alone, 3, lit=True, left_e_per_a2=1e6, spare_left_e_per_a2={}).reason.endswith("no spare area")
