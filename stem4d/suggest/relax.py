"""What gives where nothing is feasible: each requirement relaxed alone, as far as it takes, and which two collide."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from math import exp, log
from typing import Any

from pydantic import ValidationError

from stem4d import dose
from stem4d.goal import Goal
from stem4d.suggest.answer import Collision, Relaxation
from stem4d.suggest.search import Search, Tried, with_goal
from stem4d.verdict import Verdict

FARTHEST = 1000.0
"""Largest factor that a requirement is relaxed by."""
FINE = 0.02
"""A factor is found to this part."""
REPEATS = "sample.imaging.repeats"


@dataclass(frozen=True)
class Requirement:
    """Something the goal asks for that can be asked less of; ``relaxed(factor)`` is None where that means nothing."""

    field: str
    words: str
    unit: str
    asked: float
    coarser: bool
    """Whether it is relaxed upwards."""
    relaxed: Callable[[float], Goal | None]

    def at(self, factor: float) -> float:
        """Its value when relaxed by a factor."""
        return self.asked * factor if self.coarser else self.asked / factor


def collision(search: Search, nearest: Tried) -> Collision:
    """Which two requirements collide, and the least that frees the plan.

    Parameters
    ----------
    search : Search
        One that found no plan without a hard finding.
    nearest : Tried
        Its nearest miss.
    """
    found = [(each, factor) for each in requirements(search.goal) if (factor := _least(search, each)) is not None]
    found.sort(key=lambda pair: pair[1])
    relaxations = tuple(_relaxation(search, nearest, each, factor) for each, factor in found)
    # Averaging more is a way out, not something that was asked of the data.
    asked = [each.words for each, _ in found if each.field != REPEATS] or [each.words for each, _ in found]
    names = tuple(dict.fromkeys(asked))[:2]
    failing = "; ".join(sorted({_said(each) for each in _hard(nearest)}) or nearest.failing) + _dose_limit(search.goal)
    if len(names) == 2:
        message = f"{names[0].capitalize()} and {names[1]} collide. {failing}."
    elif names:
        message = f"{names[0].capitalize()} collides with what the instrument has. {failing}."
    else:
        message = f"No single requirement frees a plan, however far it is relaxed. {failing}."
    return Collision(requirements=names, message=message, relaxations=relaxations)


def _dose_limit(goal: Goal) -> str:
    """The period that the whole budget would carry, where the goal says enough to know it."""
    imaging, budget = goal.sample.imaging, goal.sample.fluence_budget_e_per_a2
    if imaging is None or not any(getattr(each, "target_d_a", None) for each in goal.analyses):
        return ""
    period = dose.dose_limited_period_a(
        budget, imaging.contrast, imaging.signal_to_noise, imaging.repeats, imaging.detective_quantum_efficiency
    )
    return f". The whole budget of {budget:g} e/Å² is dose-limited to a period of {period:.2g} Å"


def _hard(tried: Tried) -> Iterator[tuple[str, float | None, float | None, str, str]]:
    for each in tried.answers:
        judged = each.judged
        if judged.verdict is Verdict.FAIL:
            yield judged.quantity, judged.value, judged.limit, each.rule.unit, judged.sense


def _said(hard: tuple[str, float | None, float | None, str, str]) -> str:
    quantity, value, limit, unit, sense = hard
    subject = quantity[0].upper() + quantity[1:]
    if value is None or limit is None:
        return f"{subject} is not possible"
    return f"{subject} is {value:.3g} {unit}; {sense} {limit:.3g} {unit} is needed"


def requirements(goal: Goal) -> Iterator[Requirement]:
    """Everything of a goal that can be relaxed by a factor, what is asked of the data first."""
    for index, analysis in enumerate(goal.analyses):
        for name, words, unit in _TARGETS:
            asked = getattr(analysis, name, None)
            if asked is not None:
                field = f"analyses.{index}.{name}"
                yield Requirement(field, words, unit, asked, True, _changed(goal, field, asked, up=True))
    sample = goal.sample
    for field, words, unit, value, up in (
        ("sample.fluence_budget_e_per_a2", "the fluence budget", "e/Å²", sample.fluence_budget_e_per_a2, True),
        ("time_available_min", "the time available", "min", goal.time_available_min, True),
        ("sample.thickness_nm", "the thickness", "nm", sample.thickness_nm, False),
        ("sample.height_variation_nm", "the height variation", "nm", sample.height_variation_nm, False),
        (REPEATS, "the number averaged", "", sample.imaging.repeats if sample.imaging else None, True),
    ):
        if value:
            yield Requirement(field, words, unit, value, up, _changed(goal, field, value, up=up))
    yield Requirement(
        "field_nm", "the field of view", "nm", max(goal.field_nm), False, lambda factor: _smaller_field(goal, factor)
    )


_TARGETS = (
    ("target_d_a", "the target period", "Å"),
    ("smallest_deflection_mrad", "the smallest deflection", "mrad"),
    ("target_strain", "the strain precision", "strain"),
    ("smallest_feature_nm", "the smallest feature", "nm"),
)
"""What an analysis asks for that can be coarser: field, words, unit."""


def _changed(goal: Goal, field: str, asked: float, *, up: bool) -> Callable[[float], Goal | None]:
    def relaxed(factor: float) -> Goal | None:
        document = goal.model_dump()
        part: Any = document
        *folders, last = field.split(".")
        for folder in folders:
            part = part[int(folder)] if folder.isdigit() else part[folder]
        part[last] = asked * factor if up else asked / factor
        try:
            return Goal.model_validate(document)
        except ValidationError:
            return None  # Beyond the bounds of the vocabulary: nobody asks for that.

    return relaxed


def _smaller_field(goal: Goal, factor: float) -> Goal | None:
    y, x = goal.field_nm
    smallest = min(y, x) / factor
    return goal.model_copy(update={"field_nm": (y / factor, x / factor)}) if smallest >= 1 else None


def _answer(search: Search, requirement: Requirement, factor: float) -> Tried | None:
    goal = requirement.relaxed(factor)
    return None if goal is None else with_goal(search, goal).feasible()


def _least(search: Search, requirement: Requirement) -> float | None:
    """Least factor, to two per cent, from which on there is a plan without a hard finding."""
    high = next((factor for factor in (10.0, FARTHEST) if _answer(search, requirement, factor) is not None), None)
    return (
        None if high is None else _bisected(1.0, high, lambda factor: _answer(search, requirement, factor) is not None)
    )


def _bisected(low: float, high: float, enough: Callable[[float], bool]) -> float:
    while log(high / low) > FINE:
        middle = exp((log(low) + log(high)) / 2)
        if enough(middle):
            high = middle
        else:
            low = middle
    return high


def _relaxation(search: Search, nearest: Tried, requirement: Requirement, factor: float) -> Relaxation:
    # What failed must not merely fail no longer: from the comfortable value on it does not warn either.
    collided = {each.rule.id for each in nearest.answers if each.judged.verdict is Verdict.FAIL}

    def settled(at: float) -> bool:
        tried = _answer(search, requirement, at)
        return tried is not None and not any(
            each.rule.id in collided and each.judged.verdict is Verdict.WARN for each in tried.answers
        )

    warns = not settled(factor)
    comfortable = factor
    if warns:
        highest = next((at for at in (4 * factor, 40 * factor) if settled(at)), None)
        comfortable = _bisected(factor, highest, settled) if highest is not None else 0.0
    return Relaxation(
        requirement=requirement.field,
        words=requirement.words,
        asked=requirement.asked,
        needed=requirement.at(factor),
        unit=requirement.unit,
        factor=factor,
        warns=warns,
        comfortable=requirement.at(comfortable) if comfortable else None,
    )
