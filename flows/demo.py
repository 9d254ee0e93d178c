"""The demo night: the shipped one, on a specimen that was never exposed before."""

from pathlib import Path

from db.clock import utc_now
from flows.queue import Queued, queue
from stem4d.night import Night
from stem4d.plan import Plan


def demo_night(path: Path) -> tuple[Night, tuple[Queued, ...]]:
    """Read the demo's night and load a fresh simulated specimen, whose areas have their whole budget."""
    night, queued = queue(path)
    loaded = f"{utc_now():%Y%m%d-%H%M%S}"
    return night, tuple(Queued(one.target, _on_fresh_specimen(one, loaded)) for one in queued)


def _on_fresh_specimen(one: Queued, loaded: str) -> Plan:
    sample = one.plan.sample.model_copy(update={"name": f"{one.plan.sample.name}-{loaded}"})
    return one.plan.model_copy(update={"sample": sample})
