"""The stage that moves the instrument to its settings, reads them back and writes down all it knows of itself."""

from db.engine import writer
from db.results import Reading, add_snapshot
from devices.protocols import ColumnSetting, Instrument
from tasks.column import set_and_confirm
from tasks.lab import lab
from tasks.stage import stage


@stage("prepare instrument")
def prepare(instrument: str, run: str) -> None:
    """Set the column to the plan's optics, confirm what it reads back, and record every setting."""
    opened = lab(instrument)
    known = opened.runs[run]
    set_and_confirm(opened.instrument, ColumnSetting(optics=known.plan.optics))
    with writer(opened.engine) as session:
        add_snapshot(session, run_id=known.id, phase="before", readings=_readings(opened.instrument))
    opened.tell("instrument prepared", f"{instrument} is at the plan's settings and reads them back", run)


def snapshot_after(instrument: str, run: str) -> None:
    """Record every setting as the run leaves it."""
    opened = lab(instrument)
    with writer(opened.engine) as session:
        add_snapshot(session, run_id=opened.runs[run].id, phase="after", readings=_readings(opened.instrument))


def _readings(instrument: Instrument) -> list[Reading]:
    return [
        Reading(name=one.name, value=one.value, unit=one.unit, source=one.source, read_at=one.read_at)
        for one in instrument.column.snapshot()
    ]
