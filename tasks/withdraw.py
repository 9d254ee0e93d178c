"""Withdraws calibrations that a run's data contradict: no run uses them again."""

from collections.abc import Iterable

from db.operations import Withdraw
from stem4d.quality.remedies.recalibrate import ALIGNMENT
from tasks.calibrations.kinds import KINDS
from tasks.lab import Lab


def withdraw(opened: Lab, run: str, reason: str, kinds: Iterable[str] = ALIGNMENT) -> None:
    """Withdraw those of a run's calibrations that its data contradict, and say so."""
    kinds = tuple(kinds)
    opened.recorder.record(Withdraw(run=run, roles=kinds, reason=reason))
    gone = opened.memory.withdrawn(run, kinds, reason)
    for kind, calibration_id in gone.items():
        # The withdrawal itself is an event already.
        opened.show("withdrawn", f"{KINDS[kind].title}, {_number(calibration_id)}: {reason}", run)


def _number(calibration_id: int) -> str:
    return f"number {calibration_id}" if calibration_id > 0 else "whose number the database has still to give"
