"""From a rule's answer to advice: try each candidate change, keep the cheapest that mends, say what it costs."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from math import ceil
from typing import Any

from pydantic import ValidationError

from stem4d import optics
from stem4d.plan import Plan
from stem4d.rules.limits import EXPIRED_BY
from stem4d.rules.registry import ROUNDING, Answer, Context, Judged, Key, ask_all
from stem4d.rules.words import figures, sentence
from stem4d.verdict import Change, Finding, Verdict

_RANK = {verdict: rank for rank, verdict in enumerate(Verdict)}

ELECTRONS = ("exposure.dwell_time_us", "optics.probe_current_pa")
"""Two ways to the same counts: one costs drift and time, the other source size and rate (rule 9)."""
NOTICED = 0.02
"""Changes of a figure by less than this are not worth a word."""


def _drift_a(ctx: Context) -> float:
    nm_per_min = ctx.instrument.expected_drift_nm_per_min if ctx.instrument is not None else None
    return 10 * (nm_per_min or 0.0) / 60 * ctx.predicted.pass_time_s


def _source_a(ctx: Context) -> float:
    column = ctx.plan.optics
    brightness = ctx.instrument.brightness_at(column.probe_current_pa) if ctx.instrument is not None else None
    if brightness is None:
        return 0.0
    return optics.source_size_a(column.probe_current_pa, column.convergence_semi_angle_mrad, brightness)


_FIGURES: tuple[tuple[str, str, int, Callable[[Context], float]], ...] = (
    ("scan time", "s", -1, lambda c: c.predicted.total_time_s),
    ("drift during a pass", "Å", -1, _drift_a),
    ("data", "GB", -1, lambda c: c.predicted.raw_bytes / 1e9),
    ("fluence", "e/Å²", -1, lambda c: c.predicted.total_fluence_e_per_a2),
    ("electrons per pattern", "", 1, lambda c: c.predicted.electrons_per_pattern),
    ("largest recorded angle", "mrad", 1, lambda c: c.predicted.max_angle_mrad),
    ("angular sampling", "mrad/px", -1, lambda c: c.predicted.mrad_per_pixel),
    ("rate in a disk pixel", "/s", -1, lambda c: c.predicted.rate_per_disk_pixel_hz),
    ("source size", "Å", -1, _source_a),
    ("probe", "Å", -1, lambda c: c.predicted.probe_diameter_a),
)
"""What a change may cost: name, unit, +1 where more is better, and where to find it."""


def apply_change(plan: Plan, change: Change) -> Plan:
    """The plan with one parameter changed and what hangs on it.

    A new step keeps the field (the required one, where it is stated) by more or fewer positions; a new camera length
    scales a stated angle per pixel; a new dwell keeps the dead time.

    Raises
    ------
    pydantic.ValidationError
        Where the plan does not allow the value.
    """
    document: dict[str, dict[str, Any]] = plan.model_dump()
    section, _, name = change.field.partition(".")
    part = document[section]
    if name.startswith("shape["):
        shape = list(plan.scan.shape)
        shape[int(name[6])] = int(change.value)
        part["shape"] = tuple(shape)
        return Plan.model_validate(document)
    if name == "step_nm":
        field = plan.scan.required_field_nm or plan.scan.field_nm
        part["shape"] = tuple(ceil(length / change.value * (1 - ROUNDING)) for length in field)
    elif name == "camera_length_mm" and plan.detector.mrad_per_pixel is not None:
        scaled = plan.detector.mrad_per_pixel * plan.optics.camera_length_mm / change.value
        document["detector"]["mrad_per_pixel"] = scaled
    elif name == "dwell_time_us" and plan.exposure.exposure_time_us is not None:
        part["exposure_time_us"] = plan.exposure.exposure_time_us + change.value - plan.exposure.dwell_time_us
    part[name] = int(change.value) if isinstance(part[name], int) else change.value
    return Plan.model_validate(document)


@dataclass(frozen=True)
class _Trial:
    """One candidate change, and what becomes of everything else."""

    change: Change
    ctx: Context
    """As it is with the change."""
    left: Verdict
    """Verdict of the answer that it is to mend."""
    fails: tuple[str, ...]
    warns: tuple[str, ...]
    deeper: tuple[str, ...]
    """What failed before and then fails by more."""

    @property
    def cost(self) -> tuple[int, int, bool, int]:
        """Least first: new hard findings, how well it mends, whether it takes a person, what else suffers."""
        worsened = len(self.warns) + len(self.deeper)
        return len(self.fails), _RANK[self.left], self.change.needs_person, worsened


def _try(ctx: Context, before: Mapping[Key, Judged], answer: Answer, change: Change) -> _Trial | None:
    try:
        plan = apply_change(ctx.plan, change)
    except ValidationError:
        return None  # The plan's own bounds forbid the value: no candidate.
    changed = replace(ctx, plan=plan)
    after = ask_all(changed)
    left = next((each.judged.verdict for each in after if each.key == answer.key), Verdict.PASS)
    if _RANK[left] >= _RANK[answer.judged.verdict]:
        return None
    worse = [each for each in after if _RANK[each.judged.verdict] > _RANK[_verdict(before.get(each.key))]]
    deeper = tuple(dict.fromkeys(each.judged.quantity for each in after if _deeper(each.judged, before.get(each.key))))
    fails, warns = (
        tuple(dict.fromkeys(each.judged.quantity for each in worse if each.judged.verdict is verdict))
        for verdict in (Verdict.FAIL, Verdict.WARN)
    )
    return _Trial(change, changed, left, fails, warns, deeper)


def _verdict(judged: Judged | None) -> Verdict:
    return Verdict.PASS if judged is None else judged.verdict


def _deeper(after: Judged, before: Judged | None) -> bool:
    """Whether a limit that was crossed before is crossed by more."""
    if before is None or after.verdict is not before.verdict or after.verdict not in (Verdict.WARN, Verdict.FAIL):
        return False
    if after.margin is None or before.margin is None:
        return False
    return after.margin < before.margin - NOTICED * abs(before.margin)


def setting(plan: Plan, field: str) -> float:
    """What a plan has where a change would set something."""
    section, _, name = field.partition(".")
    if name.startswith("shape["):
        return float(plan.scan.shape[int(name[6])])
    return float(getattr(getattr(plan, section), name))


def _costs(before: Context, after: Context) -> str:
    moved = []
    for name, unit, better, read in _FIGURES:
        old, new = read(before), read(after)
        if (new - old) * better < -NOTICED * abs(old):
            moved.append(f"{name} {' to '.join(figures(unit, old, new))}")
    return f" It costs: {', '.join(moved)}." if moved else ""


def _in_words(ctx: Context, trial: _Trial) -> str:
    change = trial.change
    old = setting(ctx.plan, change.field)
    text = f"Set {change.field} to {change.value:g} {change.unit} (now {old:g})"
    if change.field == "scan.step_nm":
        text += f" with {trial.ctx.plan.scan.shape[0]} x {trial.ctx.plan.scan.shape[1]} positions"
    text += "." + _costs(ctx, trial.ctx)
    if change.field in EXPIRED_BY:
        text += f" It takes a new calibration of {', '.join(EXPIRED_BY[change.field])}."
    if trial.warns:
        text += f" It then warns of: {', '.join(trial.warns)}."
    if trial.deeper:
        text += f" It conflicts with another finding, which it makes worse: {', '.join(trial.deeper)}."
    if change.needs_person:
        text += " It takes a person: nobody realigns the microscope unattended."
    return text


def _other_way(trials: list[_Trial], best: _Trial) -> _Trial | None:
    """The same counts by current instead of dwell, or the reverse, where that mends it as well."""
    if best.change.field not in ELECTRONS:
        return None
    others = [each for each in trials if each.change.field in ELECTRONS and each.change.field != best.change.field]
    return next((each for each in others if not each.fails and each.left is best.left), None)


def _collision(trial: _Trial) -> str:
    change = trial.change
    return (
        f"No single setting mends this: {change.field} = {change.value:g} {change.unit} would, "
        f"but then fails on: {', '.join(trial.fails)}."
    )


def finding(ctx: Context, answer: Answer, before: Mapping[Key, Judged]) -> Finding:
    """Put one answer into words, with the least change that mends it.

    Parameters
    ----------
    ctx : Context
        What was asked about.
    answer : Answer
        The answer of one rule.
    before : mapping
        All answers by their key: what a change must not make worse.
    """
    judged = answer.judged
    trials = [trial for change in judged.mends if (trial := _try(ctx, before, answer, change)) is not None]
    best = min(trials, key=lambda trial: trial.cost, default=None)
    advice, change = "", None
    if best is not None and best.fails:
        advice = _collision(best)
    elif best is not None:
        advice, change = _in_words(ctx, best), best.change
        if other := _other_way(trials, best):
            advice += f" The same electrons the other way: {_in_words(ctx, other)}"
    return Finding(
        rule=answer.rule.id,
        axis=answer.rule.axis,
        analysis=answer.analysis,
        verdict=judged.verdict,
        quantity=judged.quantity,
        value=judged.value,
        limit=judged.limit,
        sense=judged.sense,
        unit=answer.rule.unit,
        margin=judged.margin,
        message=sentence(judged, answer.rule.unit),
        remedy=f"{advice} {judged.remedy}".strip(),
        change=change,
    )
