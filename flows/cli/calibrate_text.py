"""What the command calibrate says: how each kind stands, what will be measured and why, and what came of it."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from flows.standing import Line
from stem4d.plan import Plan
from stem4d.rules.limits import NEED_IN_WORDS
from tasks.calibrations.kinds import KINDS
from tasks.calibrations.words import figures

if TYPE_CHECKING:
    from flows.calibrate import Result


def asked_text(
    instrument: str, plan: Plan, wanted: Sequence[str], known: Sequence[str], groups: Sequence[str], seconds: float
) -> Iterator[str]:
    """What measuring some kinds takes: each kind of each group, where, and why where nobody asked for it."""
    yield f"{len(wanted)} calibration(s) on {instrument}, with what they need first:"
    sample = plan.sample
    here = (
        f"on area {sample.area} of {sample.name}, out of its budget of {sample.fluence_budget_e_per_a2:g} e/Å², "
        "leaving the plan its own dose"
    )
    for kind in KINDS.values():
        if kind.group in groups:
            where = here if kind.needs == "this_area" else NEED_IN_WORDS[kind.needs]
            yield f"  {kind.name}: {where}{_why(kind.name, wanted, known, groups)}"
    yield f"Expected: {_minutes(seconds)}, to a factor of two."


def _why(kind: str, wanted: Sequence[str], known: Sequence[str], groups: Sequence[str]) -> str:
    if kind in wanted:
        return ""
    again = ", valid as it is" if kind in known else ""
    beside = [name for name in wanted if KINDS[name].group == KINDS[kind].group]
    if beside:
        return f" (measured in the same scan as {', '.join(beside)}{again})"
    for_ = [name for name, one in KINDS.items() if one.group in groups and kind in one.after and name in wanted]
    if for_ and not again:
        return f" (needed by {', '.join(for_)})"
    return f" (measured in the same scan as what is needed{again})"


def _minutes(seconds: float) -> str:
    return f"about {seconds:.0f} s" if seconds < 90 else f"about {seconds / 60:.0f} min"


def lines_text(lines: Sequence[Line]) -> Iterator[str]:
    """A line for each kind: its state, value and number where it has one, until when or why not."""
    for line in lines:
        record, state = line.standing.calibration, line.standing.state
        if line.inapplicable:
            yield f"{line.kind:<24} {'–':<10} {line.inapplicable}"
            continue
        value = figures(line.kind, record.value, record.uncertainty) if record else ""
        number = f"number {record.id}" if record else ""
        ending = _until(line) if state == "valid" else line.obstacle or line.standing.why
        yield f"{line.kind:<24} {state:<10} {'; '.join(part for part in (value, ending, number) if part)}"


def _until(line: Line) -> str:
    record = line.standing.calibration
    return f"until {record.valid_until:%Y-%m-%d %H:%M} UTC" if record and record.valid_until else ""


def result_text(result: "Result") -> Iterator[str]:
    """What a measurement says beside the lines: what did not pass, the run, its page."""
    for one in result.recorded:
        if one.measured.verdict != "pass":
            yield f"{one.measured.kind}: {one.measured.verdict.replace('_', ' ')}. {one.measured.reason}"
    yield f"Run: {result.run}"
    yield f"Report: {result.report or 'it could not be written; see the line above'}"


def facts_of(lines: Sequence[Line], result: "Result | None") -> dict[str, Any]:
    """For ``--json``."""
    told: dict[str, Any] = {"calibrations": [line.as_dict() for line in lines], "run": None, "report": None}
    if result is None:
        return {**told, "measured": []}
    measured = [
        {
            "id": one.id,
            "kind": one.measured.kind,
            "verdict": one.measured.verdict,
            "reason": one.measured.reason,
            "value": one.measured.value,
            "uncertainty": one.measured.uncertainty,
            "residual": one.measured.residual,
            "evidence": list(one.measured.evidence),
        }
        for one in result.recorded
    ]
    report = str(result.report) if result.report else None
    return {**told, "run": result.run, "report": report, "measured": measured}
