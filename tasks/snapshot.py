"""Writing down every setting of the instrument as it stands."""

from db.engine import writer
from db.results import Reading, add_snapshot
from db.vocabulary import Phase
from tasks.lab import Lab


def snapshot(opened: Lab, run: str, phase: Phase) -> None:
    """Record every setting of the column before or after a run."""
    readings = [
        Reading(name=one.name, value=one.value, unit=one.unit, source=one.source, read_at=one.read_at)
        for one in opened.instrument.column.snapshot()
    ]
    with writer(opened.engine) as session:
        add_snapshot(session, run_id=opened.runs[run].id, phase=phase, readings=readings)
