"""The stage that moves the instrument to its settings, reads them back and writes down all it knows of itself."""

from devices.protocols import ColumnSetting, NormalisingColumn
from tasks.column import set_and_confirm
from tasks.lab import Lab, lab
from tasks.snapshot import snapshot
from tasks.stage import stage


@stage("prepare instrument")
def prepare(instrument: str, run: str) -> None:
    """Set the column to the plan's optics, confirm what it reads back, and record every setting."""
    opened = lab(instrument)
    known = opened.runs[run]
    before = _lenses(opened)
    set_and_confirm(opened.instrument, ColumnSetting(optics=known.plan.optics))
    if known.plan.approach is not None and before and before != _lenses(opened):
        _normalise(opened, run)
    snapshot(opened, run, "before")
    opened.tell("instrument prepared", f"{instrument} is at the plan's settings and reads them back", run)


def _lenses(opened: Lab) -> tuple[object, ...]:
    """What leaves hysteresis in the lenses where it changes: aperture, camera length, spot; nothing where not known."""
    read = {one.name: one.value for one in opened.instrument.column.snapshot()}
    current = read.get("probe_current_pa")
    if not isinstance(current, float):
        return ()
    spot = opened.file.facts.spot(current)
    return read.get("convergence_semi_angle_mrad"), read.get("camera_length_mm"), spot.name if spot else None


def _normalise(opened: Lab, run: str) -> None:
    """Normalise the lenses where the column can, and wait until they are at rest."""
    column, wait_s = opened.instrument.column, opened.file.facts.normalisation_wait_s
    if not isinstance(column, NormalisingColumn):
        opened.tell("lenses", "the lenses changed, and this column cannot normalise them", run)
        return
    column.normalise()
    opened.instrument.pause(wait_s)
    opened.tell("lenses", f"the lenses changed: normalised, and {wait_s:g} s waited", run, waited_s=wait_s)
