"""Withdraws calibrations that a run's data contradict: no run uses them again."""

from collections.abc import Iterable

from db.calibrations import invalidate, used_calibrations
from db.engine import writer
from stem4d.quality.remedies.recalibrate import ALIGNMENT
from tasks.calibrations.kinds import KINDS
from tasks.lab import Lab


def withdraw(opened: Lab, run: str, reason: str, kinds: Iterable[str] = ALIGNMENT) -> None:
    """Withdraw those of a run's calibrations that its data contradict, and say so."""
    known = opened.runs[run]
    with writer(opened.engine) as session:
        used = used_calibrations(session, run_id=known.id)
        gone = {
            kind: used[kind]
            for kind in kinds
            if kind in used and invalidate(session, used[kind], reason, known.id, by=run)
        }
    for kind, calibration_id in gone.items():
        # The withdrawal itself is an event already.
        opened.show("withdrawn", f"{KINDS[kind].title}, number {calibration_id}: {reason}", run)
