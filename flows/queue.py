"""What a night is to run, read and valid before anything is started. Knows no Prefect."""

from dataclasses import dataclass
from pathlib import Path

from stem4d.night import Night, Target
from stem4d.plan import Plan
from storage.documents import load_model


@dataclass(frozen=True)
class Queued:
    """A target with its plan, read and valid."""

    target: Target
    plan: Plan


def queue(path: Path) -> tuple[Night, tuple[Queued, ...]]:
    """Read a night and every plan in it.

    Raises
    ------
    BadInput
        For the first file that is wrong, before anything is started.
    """
    night = load_model(path, Night)
    return night, tuple(Queued(target, load_model(path.parent / target.plan, Plan)) for target in night.targets)
