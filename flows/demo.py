"""The demo night: the shipped one, on a specimen that was never exposed before."""

from pathlib import Path

from db.clock import utc_now
from flows.night_file import NightFile
from flows.queue import Queued, queue
from stem4d.instrument import InstrumentFile
from stem4d.plan import Plan
from storage.documents import load_model


def demo_night(path: Path) -> NightFile:
    """Read the demo's night and load a fresh simulated specimen, whose areas have their whole budget."""
    night, queued = queue(path)
    loaded = f"{utc_now():%Y%m%d-%H%M%S}"
    fresh = tuple(Queued(one.target, _on_fresh_specimen(one, loaded)) for one in queued)
    instrument = path.parent / night.instrument
    return NightFile(path, night, fresh, instrument, load_model(instrument, InstrumentFile))


def _on_fresh_specimen(one: Queued, loaded: str) -> Plan:
    sample = one.plan.sample.model_copy(update={"name": f"{one.plan.sample.name}-{loaded}"})
    return one.plan.model_copy(update={"sample": sample})
