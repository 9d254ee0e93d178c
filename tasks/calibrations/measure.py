"""Measures kinds of calibration in the order of what they need, and records each with its evidence and verdict."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace

from db.calibrations import CalibrationRecord
from db.clock import utc_now
from db.operations import AddCalibration, CalibrationKey
from stem4d.errors import BadInput, DoseRefused
from stem4d.plan import Plan
from tasks.calibrations import angle, counting, dark, moving, scale, step, tilts, turning, vacuum
from tasks.calibrations.agree import CHECKED, agreed
from tasks.calibrations.bench import Bench
from tasks.calibrations.kinds import KINDS, in_order
from tasks.calibrations.limits import judged
from tasks.calibrations.measured import Measured, not_measurable
from tasks.calibrations.standing import keys
from tasks.calibrations.words import refused, told
from tasks.lab import Lab

GROUPS: Mapping[str, Callable[[Bench], tuple[Measured, ...]]] = {
    "vacuum": vacuum.measure,
    "gain": counting.measure,
    "dark_flat": dark.measure,
    "scale": scale.measure,
    "angle": angle.measure,
    "step": step.measure,
    "rotation": turning.measure,
    "tilts": tilts.measure,
    "drift": moving.measure,
}
"""What measures the kinds of a group; each answers for all of its kinds."""


@dataclass(frozen=True)
class Recorded:
    """A measurement as it was recorded."""

    id: int
    measured: Measured


def measure(
    opened: Lab, run: str, plan: Plan, wanted: Iterable[str], known: Mapping[str, CalibrationRecord]
) -> tuple[Recorded, ...]:
    """Measure kinds, and before them what they need and nobody knows.

    Parameters
    ----------
    wanted : iterable of str
        Kinds to measure whether or not they are known.
    known : mapping
        Calibrations that may be used, by kind.

    Returns
    -------
    tuple of Recorded
        One for each kind of every group that was measured, also where it failed.
    """
    wanted = tuple(wanted)
    have = {kind: record for kind, record in known.items() if kind not in wanted}
    order = in_order(wanted, have, integrating=opened.file.facts.integrates(plan.detector.name))
    done: list[Recorded] = []
    waiting: list[Measured] = []
    rests_on: dict[str, tuple[int, ...]] = {}
    checked = {KINDS[kind].group for kind in CHECKED}

    def keep(one: Measured) -> None:
        one = judged(one, plan)
        if one.verdict == "fail":
            one = replace(one, reason=refused(one.kind, one.reason))
        record = _record(opened, run, plan, one, rests_on[one.kind])
        done.append(Recorded(record.id, one))
        opened.show("measured", told(one), run)
        if one.usable:
            have[one.kind] = record
        elif one.kind in wanted:
            opened.tell("calibration failed", f"{KINDS[one.kind].title}: {one.reason}", run)

    for number, group in enumerate(order, start=1):
        kinds = ", ".join(kind.name for kind in KINDS.values() if kind.group == group)
        opened.show("measuring", f"{kinds} ({number} of {len(order)})", run)
        found = _group(Bench(opened, run, plan, dict(have)), group)
        rests_on |= dict.fromkeys((one.kind for one in found), tuple(each.id for each in have.values()))
        if group in checked:
            waiting += found
            checked.discard(group)
            if checked & set(order):
                continue
            found, waiting = agreed(waiting), []
        for one in found:
            keep(one)
    return tuple(done)


def _group(bench: Bench, group: str) -> tuple[Measured, ...]:
    kinds = tuple(kind for kind in KINDS.values() if kind.group == group)
    own = {kind.name for kind in kinds}
    needed = {each for kind in kinds for each in kind.needed(integrating=bench.integrates)}
    lacking = needed - own - set(bench.known)
    if lacking:
        words = ", ".join(sorted(lacking))
        return tuple(not_measurable(kind.name, f"it needs {words}, which could not be measured") for kind in kinds)
    try:
        return GROUPS[group](bench)
    except (DoseRefused, BadInput) as error:
        # The area cannot bear it, or the plan's settings leave nothing to measure: the other kinds go on.
        return tuple(not_measurable(kind.name, str(error)) for kind in kinds)


def _record(opened: Lab, run: str, plan: Plan, one: Measured, rests_on: tuple[int, ...]) -> CalibrationRecord:
    kind, now = KINDS[one.kind], utc_now()
    mode_key, until = keys(opened, plan)[one.kind], now + kind.lifetime
    calibration_id = opened.recorder.record(
        AddCalibration(
            calibration=CalibrationKey(run=run, kind=one.kind, measured_at=now),
            mode_key=mode_key,
            instrument=opened.file.name,
            value=one.value,
            uncertainty=one.uncertainty,
            residual=one.residual,
            reason=one.reason,
            curves=one.curves,
            unit=kind.unit,
            valid_until=until,
            evidence=tuple(opened.recorder.dataset(number) for number in one.evidence),
            of=tuple(opened.recorder.calibration(number) for number in one.value.get("of", ())),
            verdict=one.verdict,
            rests_on=tuple(opened.recorder.calibration(number) for number in rests_on),
        )
    )
    record = CalibrationRecord(
        calibration_id, one.kind, mode_key, opened.file.name, one.value, one.uncertainty, kind.unit, now, until,
        None, opened.runs[run].id, one.verdict, one.residual, one.reason,
    )  # fmt: skip
    opened.memory.measured(record, one.evidence, usable=one.usable)
    return record
