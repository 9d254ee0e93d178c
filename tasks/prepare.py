"""The stage that moves the instrument to its settings, reads them back and writes down all it knows of itself."""

from devices.protocols import ColumnSetting
from tasks.column import set_and_confirm
from tasks.lab import lab
from tasks.snapshot import snapshot
from tasks.stage import stage


@stage("prepare instrument")
def prepare(instrument: str, run: str) -> None:
    """Set the column to the plan's optics, confirm what it reads back, and record every setting."""
    opened = lab(instrument)
    known = opened.runs[run]
    set_and_confirm(opened.instrument, ColumnSetting(optics=known.plan.optics))
    snapshot(opened, run, "before")
    opened.tell("instrument prepared", f"{instrument} is at the plan's settings and reads them back", run)
