"""Writing down every setting of the instrument as it stands."""

from dataclasses import replace

from db.operations import AddSnapshot, ReadingFacts
from db.vocabulary import Phase
from devices.protocols import DetectorWitness
from tasks.lab import Lab


def snapshot(opened: Lab, run: str, phase: Phase) -> None:
    """Record every setting of the column, and of a detector that can tell its own, before or after a run."""
    instrument = opened.instrument
    found = list(instrument.column.snapshot())
    if isinstance(instrument.detector, DetectorWitness):
        found += [replace(one, name=f"detector_{one.name}") for one in instrument.detector.snapshot()]
    readings = tuple(
        ReadingFacts(name=one.name, value=one.value, unit=one.unit, source=one.source, read_at=one.read_at)
        for one in found
    )
    opened.recorder.record(AddSnapshot(run=run, phase=phase, readings=readings))
