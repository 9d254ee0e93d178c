"""The registry of plan rules: what a rule is, what it is told, what it answers, and how all are asked."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal, get_args

from stem4d.detector import DetectorFacts
from stem4d.instrument import InstrumentFacts
from stem4d.model import NonNegative, Strict
from stem4d.plan import Analysis, Imaging, Plan
from stem4d.predict import Prediction, at_current, predict
from stem4d.rules.limits import LIMITS, RESERVE_BYTES, Limit
from stem4d.verdict import Axis, Change, Verdict

ROUNDING = 1e-9
"""Relative slack on every limit, so that a figure that equals its limit is not failed by arithmetic."""

Need = Literal["instrument", "calibrations", "free_bytes", "imaging"]


class Calibrated(Strict):
    """A calibration that is valid for the plan's optics: its value with standard uncertainty, in the same unit."""

    value: float
    uncertainty: NonNegative = 0.0


@dataclass(frozen=True)
class Context:
    """What every rule may look at; None means not known."""

    plan: Plan
    instrument: InstrumentFacts | None = None
    calibrations: Mapping[str, Calibrated] | None = None
    free_bytes: int | None = None
    limits: Mapping[str, Limit] = field(default_factory=lambda: LIMITS)
    spent_e_per_a2: float | None = None
    """What the area has had already: other targets, surveys, focusing [e/Å²]."""
    reserve_bytes: float = RESERVE_BYTES.value
    """What of the free bytes an acquisition leaves free."""

    @cached_property
    def predicted(self) -> Prediction:
        """The figures of the plan, with the current that was measured where it was."""
        return predict(at_current(self.plan, self.current_ratio))

    @property
    def current_ratio(self) -> float:
        """True over commanded probe current; 1 where it was not measured."""
        known = self.calibrated("current_ratio")
        return known.value if known is not None else 1.0

    @property
    def imaging(self) -> Imaging | None:
        """What the dose-limited period needs, where the plan states it."""
        return self.plan.sample.imaging

    @cached_property
    def detector_facts(self) -> DetectorFacts | None:
        """The plan's detector as the instrument file has it."""
        return self.instrument.detector(self.plan.detector.name) if self.instrument is not None else None

    @property
    def doubt_of_detector(self) -> str:
        """A sentence for what hangs on a detector's figures, where nobody has verified them."""
        facts = self.detector_facts
        return "The detector's figure is unverified." if facts is not None and not facts.verified else ""

    def limit(self, rule_id: str, variant: str = "") -> Limit:
        """The limit for one kind of analysis, or the one for all."""
        return self.limits.get(f"{rule_id}/{variant}") or self.limits[rule_id]

    def calibrated(self, kind: str) -> Calibrated | None:
        """A calibration, if it is known."""
        return self.calibrations.get(kind) if self.calibrations is not None else None

    def has(self, need: Need | None) -> bool:
        """Whether something that a rule needs was given."""
        return need is None or getattr(self, need) is not None


Mends = Callable[[float], Iterable[Change]]
"""Candidate changes that bring a rule's value to a figure it is given, the easiest first."""


@dataclass(frozen=True)
class Judged:
    """A rule's answer before it is put into words."""

    verdict: Verdict
    quantity: str
    value: float | None = None
    limit: float | None = None
    sense: Literal["at most", "at least"] = "at most"
    margin: float | None = None
    note: str = ""
    remedy: str = ""
    mends: tuple[Change, ...] = ()


def judge(
    limit: Limit,
    quantity: str,
    value: float,
    *,
    of: float = 1.0,
    note: str = "",
    remedy: str = "",
    mends: Mends = lambda _wanted: (),
) -> Judged:
    """Hold a value against a limit.

    Parameters
    ----------
    limit : Limit
        Hard and soft figures, as multiples of ``of``.
    quantity : str
        The value in words.
    value, of : float
        Value and reference quantity, in the unit of the rule.
    note : str
        What belongs to the figures whatever the verdict.
    remedy : str
        What to do, in words, where no single parameter says it all.
    mends : callable
        Called with the stricter limit only when it is crossed.
    """
    crossed = [
        (verdict, figure * of)
        for verdict, figure in ((Verdict.FAIL, limit.hard), (Verdict.WARN, limit.soft))
        if figure is not None and _crosses(limit, value, figure * of)
    ]
    verdict, shown = crossed[0] if crossed else (Verdict.PASS, limit.wanted * of)
    return Judged(
        verdict=verdict,
        quantity=quantity,
        value=value,
        limit=shown,
        sense=limit.sense,
        margin=_margin(limit, value, shown),
        note=note,
        remedy=remedy if crossed else "",
        mends=tuple(mends(limit.wanted * of)) if crossed else (),
    )


def _crosses(limit: Limit, value: float, figure: float) -> bool:
    slack = abs(figure) * (limit.tolerance + ROUNDING)
    return value > figure + slack if limit.sense == "at most" else value < figure - slack


def _margin(limit: Limit, value: float, figure: float) -> float | None:
    if figure == 0:
        return None
    inside = figure - value if limit.sense == "at most" else value - figure
    return inside / abs(figure)


@dataclass(frozen=True)
class Rule:
    """One rule: who it is, where it applies, what it computes."""

    id: str
    number: int
    """Number in docs/rules.md."""
    axis: Axis
    kinds: tuple[str, ...]
    """Kinds of analysis it applies to; none for a rule on the whole plan."""
    formula: str
    unit: str
    source: str
    needs: Need | None
    ask: Callable[[Context, Any], Iterator[Judged]]


AXES: tuple[Axis, ...] = get_args(Axis)
"""In the order of a report."""

RULES: dict[str, Rule] = {}
"""Every rule by its id; importing stem4d.rules fills it."""

RuleFunction = Callable[[Context, Any], Iterator[Judged]]


def rule(
    rule_id: str,
    *,
    number: int,
    axis: Axis,
    formula: str,
    unit: str,
    source: str,
    kinds: tuple[str, ...] = (),
    needs: Need | None = None,
) -> Callable[[RuleFunction], RuleFunction]:
    """Register a function as a rule; it is asked with the context and one wanted analysis, or None."""

    def register(function: RuleFunction) -> RuleFunction:
        if rule_id in RULES:
            raise ValueError(f"rule {rule_id} is registered twice")
        RULES[rule_id] = Rule(rule_id, number, axis, kinds, formula, unit, source, needs, function)
        return function

    return register


Key = tuple[str, str | None, str]
"""What stays the same of an answer when the plan is changed: rule, analysis, quantity."""


@dataclass(frozen=True)
class Answer:
    """One answer of one rule, with whom it concerns."""

    rule: Rule
    analysis: str | None
    judged: Judged

    @property
    def key(self) -> Key:
        """By which the answer is found again."""
        return self.rule.id, self.analysis, self.judged.quantity


def ask_all(ctx: Context, axes: tuple[Axis, ...] = AXES) -> list[Answer]:
    """Ask every rule of some axes that applies and whose needs are met."""
    wanted = labelled(ctx.plan.analyses)
    answers = []
    for each in RULES.values():
        if each.axis not in axes or not ctx.has(each.needs):
            continue
        concerned = wanted if each.kinds else [(None, None)]
        for label, analysis in concerned:
            if analysis is None or analysis.kind in each.kinds:
                answers += [Answer(each, label, judged) for judged in each.ask(ctx, analysis)]
    return sorted(answers, key=lambda answer: (AXES.index(answer.rule.axis), answer.rule.number))


def labelled(analyses: tuple[Analysis, ...]) -> list[tuple[str | None, Analysis | None]]:
    """Analyses with their kind as a label, numbered from the second of a kind on."""
    seen: dict[str, int] = {}
    labels: list[tuple[str | None, Analysis | None]] = []
    for analysis in analyses:
        count = seen[analysis.kind] = seen.get(analysis.kind, 0) + 1
        labels.append((analysis.kind if count == 1 else f"{analysis.kind}-{count}", analysis))
    return labels
