"""What a night is to run, read and valid before anything is started; all that is wrong is told at once."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TypeVar

from flows.possible import refuse_impossible
from stem4d.crowded import crowded
from stem4d.errors import BadInput, SeveralBad, some_of
from stem4d.instrument import InstrumentFile
from stem4d.night import Night, Target
from stem4d.plan import Plan
from storage.documents import load_model

MOST_SPARES = 16
"""Of a plan and its target together: what a plan may name."""


@dataclass(frozen=True)
class Queued:
    """A target with its plan, read and valid; the plan names the target's spare areas too."""

    target: Target
    plan: Plan


Found = TypeVar("Found")
Read = tuple[Night, tuple[Queued, ...]]


def queue(
    path: Path,
    *,
    goes_on: Callable[[str, Night, tuple[Queued, ...]], bool] = lambda _instrument, _night, _queued: False,
    has: Callable[[InstrumentFile, Plan, str], bool] = lambda _file, _plan, _kind: False,
    registered: Callable[[str, str], float | None] = lambda _sample, _area: None,
    now: Callable[[], datetime] = lambda: datetime.now(UTC),
) -> Read:
    """Read a night and every plan in it, and hold each against the facts of the night's instrument.

    Parameters
    ----------
    path : Path
        The night's file.
    goes_on : callable
        Whether this night was broken off on the instrument of that name and goes on: deadlines that have passed
        meanwhile are then no mistake.
    has : callable
        Whether a calibration of a kind is recorded and holds for a plan, where it could not be measured again.
    registered : callable
        The fluence budget [e/Å²] by which an area of a specimen is known already, None where it is not.
    now : callable
        The time, with its zone.

    Raises
    ------
    BadInput
        Naming everything that is wrong, before anything is started.
    """
    night = load_model(path, Night)
    problems: list[BadInput] = []
    file = _collected(problems, partial(load_model, path.parent / night.instrument, InstrumentFile))
    read = [_collected(problems, partial(_queued, path, target)) for target in night.targets]
    queued = tuple(one for one in read if one is not None)
    if file is not None:
        for one in queued:
            problems += _cannot(file, one, has)
    # A target that its night expects to be refused is there to be refused, and a spare may never be needed.
    counted = [one for one in queued if one.target.expect != "refused" and one.target.name not in night.held_back]
    problems += crowded((one.target.name, one.plan) for one in counted)
    if file is None or len(queued) < len(night.targets) or not goes_on(file.name, night, queued):
        problems += _late(night, now())
    problems += _spoils_nothing(night)
    problems += [problem for one in queued for problem in other_budgets(one.plan, registered)]
    # A plan that several targets share is wrong once.
    problems = list({str(one): one for one in problems}.values())
    if problems:
        raise problems[0] if len(problems) == 1 else SeveralBad(tuple(problems))
    return night, queued


def other_budgets(plan: Plan, registered: Callable[[str, str], float | None]) -> Iterator[BadInput]:
    """Areas of a plan that are known with another budget, which no plan changes."""
    sample, focus = plan.sample, plan.approach.focus_area if plan.approach else None
    areas = [(name, sample.fluence_budget_e_per_a2) for name in (sample.area, *sample.spare_areas)]
    if focus is not None:
        areas.append((focus.name, focus.fluence_budget_e_per_a2))
    for name, asked in areas:
        known = registered(sample.name, name)
        if known is not None and known != asked:
            yield BadInput(
                field=f"plan {plan.name}: budget of area {name} of {sample.name}",
                value=asked,
                limit=f"this area was registered with {known:g} e/Å², and a budget is not changed by a plan",
                unit="e/Å²",
                remedy="Keep that budget, or name another area",
            )


def _spoils_nothing(night: Night) -> Iterator[BadInput]:
    """Events that name kinds of calibration that there are not."""
    named = [(one.name, kind) for one in night.events for kind in one.spoils]
    if not named:
        return
    from tasks.calibrations.kinds import KINDS

    for name, kind in named:
        if kind not in KINDS:
            limit = f"no kind of calibration; there are {', '.join(KINDS)}"
            yield BadInput(field=f"event {name}: spoils", value=kind, limit=limit)


def _queued(path: Path, target: Target) -> Queued:
    plan = load_model(path.parent / target.plan, Plan)
    sample = plan.sample
    spares = tuple(dict.fromkeys((*sample.spare_areas, *target.spare_areas)))
    if sample.area in spares or len(spares) > MOST_SPARES:
        limit = f"at most {MOST_SPARES} with those of its plan, and none of them its area {sample.area}"
        raise BadInput(field=f"target {target.name}: spare_areas", value=list(target.spare_areas), limit=limit)
    if spares != sample.spare_areas:
        plan = plan.model_copy(update={"sample": sample.model_copy(update={"spare_areas": spares})})
    return Queued(target, plan)


def _cannot(file: InstrumentFile, one: Queued, has: Callable[[InstrumentFile, Plan, str], bool]) -> Iterator[BadInput]:
    target = one.target
    if target.expect != "refused":
        try:
            refuse_impossible(target.plan, one.plan, file.facts)
        except BadInput as error:
            yield error
        yield from _no_such_area(file, one)
    if not target.needs:
        return
    from tasks.calibrations.kinds import kinds_for

    used = kinds_for(one.plan)
    for kind in target.needs:
        why = "is needed by none of its analyses" if kind not in used else _obstacle(file, one, kind, has)
        if why:
            remedy = f"Its analyses need {', '.join(used)}" if kind not in used else "Leave it out of needs"
            yield BadInput(field=f"target {target.name}: needs", value=kind, limit=why, remedy=remedy)


def _obstacle(file: InstrumentFile, one: Queued, kind: str, has: Callable[[InstrumentFile, Plan, str], bool]) -> str:
    from flows.standing import obstacle

    found = obstacle(file, one.plan, kind)
    return "" if not found or has(file, one.plan, kind) else f"cannot be met on {file.name}: {found}"


def _no_such_area(file: InstrumentFile, one: Queued) -> Iterator[BadInput]:
    known = file.facts.areas
    for area in one.target.spare_areas if known else ():
        if area not in known:
            yield BadInput(
                field=f"target {one.target.name}: spare_areas",
                value=area,
                limit=f"{file.name} has the areas {some_of(known)}",
            )


def _late(night: Night, now: datetime) -> Iterator[BadInput]:
    for target in night.targets:
        if target.deadline is not None and target.deadline <= now:
            yield BadInput(
                field=f"target {target.name}: deadline",
                value=target.deadline.isoformat(),
                limit=f"has passed: it is {now.astimezone(UTC):%Y-%m-%dT%H:%MZ}",
                remedy="Give a later one, or none",
            )


def _collected(problems: list[BadInput], read: Callable[[], Found]) -> Found | None:
    try:
        return read()
    except BadInput as error:
        problems.append(error)
        return None
