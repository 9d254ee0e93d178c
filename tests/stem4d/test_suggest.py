"""From goals to plans: the published cases are found again, and what cannot be answered is told with its figure."""

from functools import cache
from pathlib import Path

import pytest
from rules_world import PLANS

from stem4d.errors import BadInput
from stem4d.goal import Goal
from stem4d.instrument import Aperture, InstrumentFacts, InstrumentFile
from stem4d.rules import check
from stem4d.suggest import Suggestion, suggest
from stem4d.suggest.search import Search
from storage.documents import load_model

GOALS = PLANS / "goals"
EVERY = tuple(sorted(path.stem for path in GOALS.glob("*.yaml")))
FREE = 10**12


def goal(name: str, **changes: object) -> Goal:
    read = load_model(GOALS / f"{name}.yaml", Goal)
    return Goal.model_validate(read.model_dump() | changes)


@cache
def facts(name: str) -> InstrumentFacts:
    """The demo's instrument, or the same with so many apertures that none is handed to the search."""
    demo = load_model(PLANS / "instruments" / "demo.toml", InstrumentFile).facts
    if name == "demo":
        return demo
    angles = (1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 8.0, 10.0, 15.0, 20.0, 25.0, 30.0, 35.0)
    many = tuple(Aperture(name=f"c-{angle:g}", convergence_semi_angle_mrad=angle) for angle in angles)
    return demo.model_copy(update={"apertures": many})


@cache
def answer(name: str, instrument: str) -> Suggestion:
    return suggest(goal(name), facts(instrument), free_bytes=FREE)


@pytest.mark.parametrize("instrument", ["demo", "wide"])
@pytest.mark.parametrize(("name", "published_mrad"), [("case_a", 27.6), ("case_b", 4.0)])
def test_published_cases_are_found_again(name: str, published_mrad: float, instrument: str) -> None:
    found = answer(name, instrument)
    assert found.feasible
    assert found.check.hard == ()
    angle = found.plan.optics.convergence_semi_angle_mrad
    assert published_mrad / 2 <= angle <= published_mrad * 2


def test_a_budget_that_is_to_be_spent_is_spent() -> None:
    spent = answer("case_b", "wide").check.prediction.total_fluence_e_per_a2
    # 3 % are kept for what a measured current differs from a commanded one; its three digits cost less than 1 %.
    assert 0.95 * 30 <= spent <= 0.971 * 30


# Many apertures are searched to an answer by the feasible goals above; this refusal is the longest search of all.
@pytest.mark.parametrize("instrument", ["demo", pytest.param("wide", marks=pytest.mark.slow)])
def test_a_framework_at_one_angstrom_is_refused_with_the_dose_limited_period(instrument: str) -> None:
    found = answer("mof", instrument)
    assert not found.feasible
    assert found.collision is not None
    assert found.collision.requirements == ("the target period", "the fluence budget")
    # 3/(0.2 sqrt(10)) = 4.743 Å with all of the budget.
    assert "4.7 Å" in found.collision.message
    period, budget = (
        next(each for each in found.collision.relaxations if each.requirement == field)
        for field in ("analyses.0.target_d_a", "sample.fluence_budget_e_per_a2")
    )
    # Hard from half of the period that 97 % of the budget carry, 4.816/2 Å; soft up to all of it. Found to 2 %.
    assert period.needed == pytest.approx(2.408, rel=0.03)
    assert period.comfortable == pytest.approx(4.816, rel=0.03)
    assert period.warns
    # A period of 2 Å takes (4.816/2)² times the budget, one of 1 Å four times that.
    assert budget.needed == pytest.approx(58.0, rel=0.03)
    assert budget.comfortable == pytest.approx(232.0, rel=0.03)
    assert [each.factor for each in found.collision.relaxations] == sorted(
        each.factor for each in found.collision.relaxations
    )


def test_relaxations_free_the_plan() -> None:
    found = answer("mof", "demo")
    assert found.collision is not None
    for each in found.collision.relaxations:
        document = goal("mof").model_dump()
        part = document
        *folders, last = each.requirement.split(".")
        for folder in folders:
            part = part[int(folder)] if folder.isdigit() else part[folder]
        part[last] = each.needed
        relaxed = Search(Goal.model_validate(document), facts("demo"), FREE).best()
        assert relaxed is not None, each.requirement
        assert relaxed.failing == (), each.requirement


@pytest.mark.parametrize("name", [name for name in EVERY if name != "mof"])
def test_every_shipped_goal_has_an_answer(name: str) -> None:
    found = answer(name, "demo")
    assert found.feasible, found.collision
    assert found.check == check(found.plan, facts("demo"), None, FREE)
    assert found.plan.analyses == found.goal.analyses
    assert found.plan.sample == found.goal.sample
    assert all(field >= asked for field, asked in zip(found.plan.scan.field_nm, found.goal.field_nm, strict=True))
    assert found.notes


@pytest.mark.parametrize("name", ["strain"])
def test_the_same_goal_gets_the_same_answer(name: str) -> None:
    again = suggest(goal(name), facts("demo"), free_bytes=FREE)
    assert again.model_dump_json() == answer(name, "demo").model_dump_json()


@pytest.mark.parametrize("name", [name for name in EVERY if name != "mof"])
def test_a_coarser_target_never_costs_more(name: str) -> None:
    curve = answer(name, "demo").curve
    costs = [point.fluence_e_per_a2 for point in curve if point.feasible]
    assert costs == sorted(costs, reverse=True)
    feasible = [point.feasible for point in curve]
    assert feasible == sorted(feasible)
    assert [point.relaxed_by for point in curve if point.target == pytest.approx(curve[3].target)] == [1.0]


def test_time_is_kept_or_collides() -> None:
    quick = suggest(goal("virtual", time_available_min=0.02), facts("demo"), free_bytes=FREE)
    assert quick.feasible
    assert quick.check.prediction.total_time_s <= 1.2
    hopeless = suggest(goal("virtual", time_available_min=1e-6), facts("demo"), free_bytes=FREE)
    assert not hopeless.feasible
    assert hopeless.collision is not None
    assert "the time available" in hopeless.collision.requirements


def test_all_analyses_of_a_goal_are_met_by_one_plan() -> None:
    both = goal("com").model_dump()
    both["analyses"] = (*both["analyses"], {"kind": "virtual", "target_d_a": 2.0, "detectors": (
        {"name": "adf", "inner_mrad": 60.0, "outer_mrad": 90.0},)})  # fmt: skip
    found = suggest(Goal.model_validate(both), facts("demo"), free_bytes=FREE)
    assert found.feasible
    assert found.check.prediction.max_angle_mrad >= 90 * 0.98
    assert {each.analysis for each in found.check.findings} >= {"com", "virtual"}


@pytest.mark.parametrize(
    ("name", "changes", "field", "said"),
    [
        ("case_a", {"beam_energy_kev": 120.0}, "beam_energy_kev", "nearest is"),
        ("case_a", {"detector": "arin"}, "detector", "Did you mean arina"),
        ("strain", {"field_nm": (2.0, 300.0)}, "analyses.0.smallest_feature_nm", "larger than the field"),
        ("virtual", {"field_nm": (0.1, 25.0)}, "analyses.0.target_d_a", "longer than the field"),
        ("case_a", {"field_nm": (1e7, 1e7)}, "field_nm", "smaller field"),
    ],
)
def test_goals_that_contradict_themselves_are_refused(name: str, changes: dict, field: str, said: str) -> None:
    with pytest.raises(BadInput) as refused:
        suggest(goal(name, **changes), facts("demo"))
    assert refused.value.field == field
    assert said in str(refused.value)


def test_goal_files_are_plain() -> None:
    assert {"case_a", "case_b", "mof", "virtual", "com", "strain", "orientation", "tcbf"} <= set(EVERY)
    assert all(Path(GOALS / f"{name}.yaml").read_text().startswith("#") for name in EVERY)
