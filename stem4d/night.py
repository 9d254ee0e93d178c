"""The night: an ordered list of plans on one instrument, with what is expected of each."""

from enum import StrEnum
from typing import Annotated, Literal

from pydantic import Field, StringConstraints, model_validator

from stem4d.model import Name, Positive, Strict, Title


class TargetState(StrEnum):
    """How a target stands or ended."""

    PENDING = "pending"
    RUNNING = "running"
    DONE = "done"
    MENDED = "mended"
    MARKED = "marked"
    REFUSED = "refused"
    SKIPPED = "skipped"
    FAILED = "failed"


RelativeFile = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_][A-Za-z0-9._/-]{0,199}$")]


class Target(Strict):
    """One plan to be run in the night."""

    name: Name
    title: Title = ""
    plan: RelativeFile
    """Plan file, relative to the night's file."""
    expect: Literal["done", "mended", "marked", "refused"] | None = None
    """How this target should end; ``nightbeam demo`` exits 1 when one does not."""

    @model_validator(mode="after")
    def _inside(self) -> "Target":
        if ".." in self.plan.split("/"):
            raise ValueError("plan must lie in or below the folder of the night file")
        return self


class Night(Strict):
    """What runs until morning."""

    format_version: Literal[1]
    name: Name
    title: Title = ""
    instrument: RelativeFile
    """Instrument file, relative to the night's file."""
    targets: Annotated[tuple[Target, ...], Field(min_length=1, max_length=10000)]
    max_hours: Positive = 14.0
    calibrate: Literal["when_stale", "always"] = "when_stale"
    """``always`` trusts no calibration made before this night."""

    @model_validator(mode="after")
    def _names_differ(self) -> "Night":
        names = [target.name for target in self.targets]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"target names must differ; {', '.join(twice)} stands more than once")
        return self
