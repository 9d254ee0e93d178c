"""The search: bare plans ranked by their geometry, the best filled in, and mended by the rules' own remedies."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import islice
from math import ceil, log

from pydantic import ValidationError

from stem4d.goal import Goal
from stem4d.instrument import InstrumentFacts
from stem4d.plan import Plan, Ptychography
from stem4d.predict import Prediction, predict
from stem4d.rules.advice import apply_change
from stem4d.rules.limits import RESERVE_BYTES
from stem4d.rules.registry import AXES, Answer, Context, ask_all, labelled
from stem4d.suggest.bench import benches, shortest_dwell_us
from stem4d.suggest.candidates import (
    COARSE_ROOM,
    STEP_ROOM,
    concentrated,
    defocused,
    dimmed,
    exposed,
    faster,
    fractionated,
    stepped,
)
from stem4d.suggest.preference import dislike
from stem4d.verdict import Verdict

GEOMETRIES = 8
"""Geometries that are filled in."""
SEEDS = 5
"""Filled-in plans that are mended."""
ATTEMPTS = ((1.0, STEP_ROOM), (1.0, COARSE_ROOM), *((part, STEP_ROOM) for part in (0.3, 0.1, 0.03, 0.01)))
"""Part of the fluence that is allowed, and steps over the coarsest advised: one after another until there is a plan."""
FEW_GEOMETRIES, FEW_SEEDS, COARSE, FEW_ATTEMPTS = 3, 2, 2, 2
"""The same where only the question is whether there is any plan."""
ROUNDS = 6
"""Remedies applied to a plan one after another."""
MOST_PASSES = 12
LEAST = 1e-6
"""Least part of a plan's electrons that is looked at when dose is saved."""
NOISE = ("dose_limited_period", "com_noise", "strain_noise", "electrons_per_pattern")
"""Rules that ask for electrons: where one warns already, none are saved."""
NEED_MARGIN = 1.5
"""Electrons over what the noise rules need, where the dose is as needed (habit)."""
ANGULAR = ("disk_on_detector", "recorded_angle", "aperture_resolution", "reflections_recorded", "collection_angle")
"""Rules on angles, which are not known to better than two per cent before calibration: their margins count."""
WARNING = 1.5
"""A soft finding weighs as much as a preferred angle missed by this many factors of e (habit)."""
SPENDING = ("fluence_class", "optimum_exposure")
"""Rules that warn of a dose which ``spend_budget`` has asked for."""
TIME = "time of the scan"


Attempt = tuple[float, tuple[float, ...]]


@dataclass(frozen=True)
class Tried:
    """A candidate plan and what the rules say of it."""

    goal: Goal
    plan: Plan
    answers: tuple[Answer, ...]

    @cached_property
    def predicted(self) -> Prediction:
        """Its figures."""
        return predict(self.plan)

    @cached_property
    def failing(self) -> tuple[str, ...]:
        """Quantities that cannot work; the time that is available is one of them."""
        late = (TIME,) if self.overtime > 1 else ()
        return (*(each.judged.quantity for each in self.answers if each.judged.verdict is Verdict.FAIL), *late)

    @cached_property
    def warning(self) -> tuple[str, ...]:
        """Quantities to mind, but for those that the goal itself means."""
        return tuple(
            each.judged.quantity
            for each in self.answers
            if each.judged.verdict is Verdict.WARN and not self._meant(each)
        )

    def _meant(self, answer: Answer) -> bool:
        if answer.rule.id == "depth_of_field":
            wanted = dict(labelled(self.plan.analyses))[answer.analysis]
            return isinstance(wanted, Ptychography) and wanted.model == "multislice"
        return self.goal.dose == "spend_budget" and answer.rule.id in SPENDING

    @property
    def overtime(self) -> float:
        """Time over the time that is available; 0 where that is not stated."""
        available = self.goal.time_available_min
        return 0.0 if available is None else self.predicted.total_time_s / (60 * available)

    @cached_property
    def rank(self) -> tuple[int, float, float]:
        """Least is best: what cannot work and by how much, what is to be minded, what one would not choose."""
        missed = sum(_miss(each) for each in self.answers if each.judged.verdict is Verdict.FAIL)
        missed += log(self.overtime) if self.overtime > 1 else 0.0
        margins = [each.judged.margin for each in self.answers if each.rule.id in ANGULAR]
        tightest = min((margin for margin in margins if margin is not None), default=1.0)
        return (
            len(self.failing),
            round(missed, 2),
            WARNING * len(self.warning) + dislike(self.goal, self.plan, self.predicted, tightest),
        )


def _miss(answer: Answer) -> float:
    value, limit = answer.judged.value, answer.judged.limit
    if value is None or limit is None or value <= 0 or limit <= 0:
        return 5.0
    return abs(log(value / limit))


@dataclass(frozen=True)
class Search:
    """One question to one instrument."""

    goal: Goal
    instrument: InstrumentFacts
    free_bytes: int | None = None
    reserve_bytes: float = RESERVE_BYTES.value

    def best(self, *, coarse: bool = False) -> Tried | None:
        """The best plan there is, or nearly so by a coarser look; None where no combination of settings takes one."""
        found: Tried | None = None
        for attempt in ATTEMPTS:
            mended = (self._mended(seed) for seed in self._seeds(attempt, coarse=coarse))
            ready = (each if each.failing else self._thrifty(each) for each in mended)
            found = min((*ready, *([found] if found is not None else [])), key=lambda each: each.rank, default=None)
            # A budget can be too small for fine steps, or so large that it leads away from everything else.
            if found is None or not found.failing:
                break
        return found

    def feasible(self) -> Tried | None:
        """Any plan without a hard finding, the first that turns up in a coarser look at fewer geometries."""
        for attempt in ATTEMPTS[:FEW_ATTEMPTS]:
            for plan in self.geometries[:FEW_GEOMETRIES]:
                for seed in _least(self._filled(plan, attempt, COARSE), FEW_SEEDS):
                    mended = self._mended(seed, enough=True)
                    if not mended.failing:
                        return mended
        return None

    def tried(self, plan: Plan) -> Tried:
        """What the rules say of a plan."""
        ctx = Context(plan, self.instrument, None, self.free_bytes, reserve_bytes=self.reserve_bytes)
        return Tried(self.goal, plan, tuple(ask_all(ctx)))

    @cached_property
    def geometries(self) -> list[Plan]:
        """The best energies, apertures, camera lengths, detectors and defoci by the rules of reciprocal space."""
        looked = []
        for bench in benches(self.goal, self.instrument):
            for plan in defocused(bench, self.instrument):
                answers = tuple(ask_all(Context(plan, self.instrument), AXES[:1]))
                looked.append(Tried(self.goal, plan, answers))
        return [each.plan for each in _least(looked, GEOMETRIES)]

    def _seeds(self, attempt: Attempt, *, coarse: bool) -> list[Tried]:
        geometries = self.geometries[:FEW_GEOMETRIES] if coarse else self.geometries
        every, seeds = (COARSE, FEW_SEEDS) if coarse else (1, SEEDS)
        return _least((each for plan in geometries for each in self._filled(plan, attempt, every)), seeds)

    def _filled(self, geometry: Plan, attempt: Attempt, every: int) -> Iterator[Tried]:
        """A geometry with steps, dwell times and currents, or with every so many of them."""
        spend, (part, rooms) = self.goal.dose == "spend_budget", attempt
        for scanned in islice(stepped(geometry, rooms), None, None, every):
            filled = exposed(scanned, self.instrument, spend=spend, part=part)
            for ready in islice(filled, None, None, every):
                yield self.tried(ready)

    def _mended(self, seed: Tried, *, enough: bool = False) -> Tried:
        """A plan with the rules' remedies applied for as long as they make it better."""
        best = seed
        for _ in range(ROUNDS):
            if enough and not best.failing:
                break
            better = min((self.tried(plan) for plan in self._moves(best)), key=lambda each: each.rank, default=best)
            if better.rank >= best.rank:
                break
            best = better
        return best

    def _moves(self, tried: Tried) -> Iterator[Plan]:
        if tried.overtime > 1:
            yield from faster(tried.plan, tried.overtime)
        seen = {tried.plan}
        for answer in tried.answers:
            for change in answer.judged.mends:
                if change.needs_person:
                    continue  # Other apertures and energies are seeds of their own.
                try:
                    plan = apply_change(tried.plan, change)
                except ValidationError:
                    continue  # The plan's own bounds forbid it.
                if plan not in seen:
                    seen.add(plan)
                    yield plan
            scarcity = _scarcity(answer)
            if scarcity is not None:
                yield from concentrated(tried.plan, scarcity, self.instrument.probe_current_pa.highest)
            passes = _passes(answer, tried.plan)
            if passes is not None:
                parted = fractionated(tried.plan, passes, self.instrument.probe_current_pa.lowest)
                if parted is not None:
                    yield parted

    def _thrifty(self, found: Tried) -> Tried:
        """The same plan with as few electrons as the noise rules bear, and a margin, where dose is as needed."""
        scarce = any(each.rule.id in NOISE and each.judged.verdict is Verdict.WARN for each in found.answers)
        if self.goal.dose == "spend_budget" or scarce:
            return found
        high, low = 1.0, LEAST
        while high / low > 1.02:
            middle = (high * low) ** 0.5
            if self._as_good(found, self._dimmed(found, middle)):
                high = middle
            else:
                low = middle
        spared = self._dimmed(found, min(1.0, NEED_MARGIN * high))
        return spared if self._as_good(found, spared) else found

    def _dimmed(self, found: Tried, factor: float) -> Tried:
        facts = next(each for each in self.instrument.all_detectors if each.name == found.plan.detector.name)
        shortest_us = shortest_dwell_us(facts, self.instrument)
        return self.tried(dimmed(found.plan, factor, shortest_us, self.instrument.probe_current_pa.lowest))

    def _as_good(self, found: Tried, other: Tried) -> bool:
        return not other.failing and set(other.warning) <= set(found.warning)


def with_goal(search: Search, goal: Goal) -> Search:
    """The same instrument asked for another goal; geometries are kept where nothing that they hang on differs."""
    other = replace(search, goal=goal)
    same = (goal.analyses, goal.beam_energy_kev, goal.detector) == (
        search.goal.analyses,
        search.goal.beam_energy_kev,
        search.goal.detector,
    )
    if same:
        scan = {"required_field_nm": goal.field_nm}
        other.__dict__["geometries"] = [
            plan.model_copy(update={"sample": goal.sample, "scan": plan.scan.model_copy(update=scan)})
            for plan in search.geometries
        ]
    return other


def _scarcity(answer: Answer) -> float | None:
    """How many times more electrons each pattern would have to hold, where a rule asks for more."""
    judged = answer.judged
    if judged.verdict not in (Verdict.WARN, Verdict.FAIL) or not judged.value or not judged.limit:
        return None
    if answer.rule.id in ("com_noise", "strain_noise"):
        return (judged.value / judged.limit) ** 2
    return judged.limit / judged.value if answer.rule.id == "electrons_per_pattern" else None


def _passes(answer: Answer, plan: Plan) -> int | None:
    """How many passes bring one pass within a limit that holds for each."""
    judged = answer.judged
    crossed = judged.verdict in (Verdict.WARN, Verdict.FAIL)
    if not crossed or answer.rule.id not in ("optimum_exposure", "drift_of_field", "drift_of_feature"):
        return None
    if judged.value is None or not judged.limit:
        return None
    passes = ceil(plan.exposure.passes * judged.value / judged.limit)
    return passes if plan.exposure.passes < passes <= MOST_PASSES else None


def _least(tried: Iterable[Tried], count: int) -> list[Tried]:
    return sorted(tried, key=lambda each: each.rank)[:count]
