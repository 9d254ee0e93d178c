"""What must hold for any goal: nothing but documented errors, and more to spend never answers less."""

import json
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, example, given, settings
from hypothesis import strategies as st
from random_plans import length, maybe, one_analysis, span
from test_suggest import FREE, facts

from stem4d.errors import BadInput
from stem4d.goal import Goal
from stem4d.rules import check
from stem4d.suggest import suggest
from stem4d.suggest.search import Search

imaging = st.fixed_dictionaries(
    {
        "contrast": span(1e-3, 1),
        "signal_to_noise": span(1, 10),
        "repeats": span(1, 1e6),
        "detective_quantum_efficiency": span(0.1, 1),
    }
)
# A goal takes a second to answer, so a failing one is shown as it was found.
QUICK = settings(
    deadline=None, max_examples=4, suppress_health_check=[HealthCheck.too_slow], phases=[Phase.explicit, Phase.generate]
)
goals = st.fixed_dictionaries(
    {
        "format_version": st.just(1),
        "name": st.just("random"),
        "sample": st.fixed_dictionaries(
            {
                "name": st.just("s"),
                "area": st.just("a"),
                "sensitivity": st.sampled_from(["vitrified", "mof_cof", "robust"]),
                "thickness_nm": length,
                "fluence_budget_e_per_a2": span(1e-6, 1e15),
                "imaging": maybe(imaging),
            }
        ),
        "analyses": st.lists(one_analysis, min_size=1, max_size=2),
        "field_nm": st.tuples(length, length),
        "time_available_min": maybe(span(1e-3, 1e4)),
        "dose": st.sampled_from(["as_needed", "spend_budget"]),
    }
)
# Below some 10 e/Å² this question is answered, if at all, by isolated spots far apart: no exhaustive search is made.
sensible = st.builds(
    lambda plain, budget: (
        plain
        | {
            "sample": plain["sample"] | {"thickness_nm": 5.0, "fluence_budget_e_per_a2": budget},
            "analyses": [{"kind": "com", "target_d_a": 2.0, "smallest_deflection_mrad": 0.5}],
            "field_nm": (20.0, 20.0),
            "time_available_min": None,
        }
    ),
    goals,
    span(10, 1e6),
)


def read(plain: dict[str, Any]) -> Goal:
    for number, analysis in enumerate(plain["analyses"]):
        for order, detector in enumerate(analysis.get("detectors", [])):
            detector["name"] = f"d{number}-{order}"  # Two of one name would be refused.
    return Goal.model_validate_json(json.dumps(plain))


def any_goal(plain: dict[str, Any]) -> None:
    goal = read(plain)
    try:
        found = suggest(goal, facts("demo"), free_bytes=FREE)
    except BadInput:
        return
    assert found.check == check(found.plan, facts("demo"), None, FREE)
    late = goal.time_available_min is not None and found.check.prediction.total_time_s > 60 * goal.time_available_min
    assert found.feasible == (not found.check.hard and not late)
    assert (found.collision is None) == found.feasible


# A field of a centimetre in 60 ms: the mending asked for steps beyond what a plan can hold.
HURRIED: dict[str, Any] = {
    "format_version": 1,
    "name": "random",
    "sample": {
        "name": "s",
        "area": "a",
        "sensitivity": "robust",
        "thickness_nm": 1e7,
        "fluence_budget_e_per_a2": 26.7,
        "imaging": {
            "repeats": 1,
            "contrast": 1e-3,
            "signal_to_noise": 10,
            "detective_quantum_efficiency": 0.243,
        },
    },
    "field_nm": (1e7, 9999999.999999976),
    "dose": "as_needed",
    "time_available_min": 0.001,
    "analyses": [
        {"kind": "orientation", "smallest_feature_nm": 14199.6, "neighbour_d_a": None, "reflection_d_a": 1e5},
        {
            "kind": "ptychography",
            "probe_modes": 9,
            "model": "single_slice",
            "affine_refinement": True,
            "slice_thickness_nm": 0.001,
            "target_d_a": 2.98,
        },
    ],
}


@QUICK
@example(HURRIED)
@given(goals)
def test_any_goal_gets_an_answer(plain: dict[str, Any]) -> None:
    any_goal(plain)


@pytest.mark.slow
@settings(QUICK, max_examples=200)
@given(goals)
def test_two_hundred_goals_get_an_answer(plain: dict[str, Any]) -> None:
    any_goal(plain)


@QUICK
@given(sensible, span(1, 1e3))
def test_a_bigger_budget_never_makes_a_feasible_goal_infeasible(plain: dict[str, Any], factor: float) -> None:
    goal = read(plain)
    more = goal.sample.model_copy(
        update={"fluence_budget_e_per_a2": min(goal.sample.fluence_budget_e_per_a2 * factor, 1e15)}
    )
    before = Search(goal, facts("demo"), FREE).best()
    after = Search(goal.model_copy(update={"sample": more}), facts("demo"), FREE).best()
    assert before is not None
    assert after is not None
    if not before.failing:
        assert after.failing == ()
