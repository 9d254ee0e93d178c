"""What a night is to run, read and valid before anything is started. Knows no Prefect."""

from dataclasses import dataclass
from pathlib import Path

from flows.possible import refuse_impossible
from stem4d.instrument import InstrumentFile
from stem4d.night import Night, Target
from stem4d.plan import Plan
from storage.documents import load_model


@dataclass(frozen=True)
class Queued:
    """A target with its plan, read and valid."""

    target: Target
    plan: Plan


def queue(path: Path) -> tuple[Night, tuple[Queued, ...]]:
    """Read a night and every plan in it, and hold each against the facts of the night's instrument.

    Raises
    ------
    BadInput
        For the first file that is wrong, or the first plan that the instrument cannot do, before anything is started.
    """
    night = load_model(path, Night)
    queued = tuple(Queued(target, load_model(path.parent / target.plan, Plan)) for target in night.targets)
    facts = load_model(path.parent / night.instrument, InstrumentFile).facts
    for one in queued:
        # A target that its night expects to be refused is there to be refused.
        if one.target.expect != "refused":
            refuse_impossible(one.target.plan, one.plan, facts)
    return night, queued
