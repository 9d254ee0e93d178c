"""The night: plans to be run on one instrument, with what is expected of each."""

from collections import Counter
from collections.abc import Iterator
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Annotated, Literal

from pydantic import AwareDatetime, Field, StringConstraints, model_validator

from stem4d.errors import Inconsistent, some_of
from stem4d.model import Name, NonNegative, Positive, Strict, Title

MOST_HOURS = 1e4
"""More than a year is a slip of the pen."""
BY_A_PERSON = "skipped by a person"
"""How the reason of a target begins that a person does not want."""
NOT_NEEDED = "a spare that was not needed"
"""Reason of a target that only stood in for others."""


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


TIMED = (TargetState.DONE, TargetState.MENDED, TargetState.MARKED)
"""Ends whose time says something of the others': what is refused at once takes none."""
RelativeFile = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_][A-Za-z0-9._/-]{0,199}$")]


class Target(Strict):
    """One plan to be run in the night."""

    name: Name
    title: Title = ""
    plan: RelativeFile
    """Plan file, relative to the night's file."""
    expect: Literal["done", "mended", "marked", "refused"] | None = None
    """How this target should end; ``nightbeam demo`` exits 1 when one does not."""
    priority: Annotated[int, Field(ge=-100, le=100)] = 0
    """The higher goes first, and is the last to be given up where time runs short."""
    deadline: AwareDatetime | None = None
    """When it has to have ended: a time with its zone, ``2026-11-28T05:30Z`` or ``2026-11-28T06:30+01:00``."""
    deadline_h: Annotated[float, Field(gt=0, le=MOST_HOURS)] | None = None
    """The same as hours after the start of the night."""
    spare_areas: Annotated[tuple[Name, ...], Field(max_length=16)] = ()
    """Like areas of its specimen beside those that its plan names, in order; each with the plan's budget."""
    needs: Annotated[tuple[Name, ...], Field(max_length=16)] = ()
    """Kinds of calibration without which it is not exposed; by itself a plan does without what cannot be measured."""
    spare_targets: Annotated[tuple[Name, ...], Field(max_length=16)] = ()
    """Targets of this night that are held back, and run in order where this one was exposed or tried in vain."""

    @model_validator(mode="after")
    def _inside(self) -> "Target":
        if ".." in self.plan.split("/"):
            raise ValueError("plan must lie in or below the folder of the night file")
        if self.deadline is not None and self.deadline_h is not None:
            raise ValueError("deadline and deadline_h say the same: give one of them")
        return self

    def due(self, started: datetime) -> datetime | None:
        """When it has to have ended, in a night that started then; None where it may take its time."""
        if self.deadline_h is not None:
            return started + timedelta(hours=self.deadline_h)
        return self.deadline


class Overheads(Strict):
    """What a target takes beside its beam [s]: habit, good to a factor of two. A night corrects it as it goes."""

    target_s: NonNegative = 120.0
    """Finding the area, settling, calibrating, judging and analysing."""
    beam_energy_s: NonNegative = 1800.0
    """Settling after a change of the high tension."""
    convergence_s: NonNegative = 300.0
    """Realigning the condenser after a change of aperture."""
    camera_length_s: NonNegative = 60.0
    """Normalising lenses, and what is calibrated anew."""
    spot_s: NonNegative = 60.0


class Conditions(Strict):
    """What has to be good before each target and each pass; where it is not, the night waits with the beam blanked.

    What an instrument does not tell of itself is not waited for.
    """

    vacuum_pascal: Positive | None = None
    """Highest pressure, by the column's reading of that name."""
    emission_ua: Positive | None = None
    """Lowest emission of the gun: below it there is no beam current to count on."""
    cryo_fill: bool = False
    """Whether a fill of the cold trap is waited out."""
    disk: bool = True
    """Whether the disk has to have more than its reserve free."""
    network: bool = True
    """Whether column and detector have to answer."""
    settle_s: NonNegative = 60.0
    """How long all of it has to have been good again [s]."""
    wait_at_most_min: NonNegative = 60.0
    """After that the night ends with the cause."""


class Event(Strict):
    """What the instrument does by itself or by its schedule in a night, between two targets."""

    name: Name
    at_h: NonNegative
    """Hours after the start of the night, or of the session that goes on with it, on the instrument's clock."""
    every_h: Positive | None = None
    """Hours from one to the next; once where absent."""
    takes_min: Annotated[float, Field(ge=0, le=600)] = 0.0
    """How long the night waits for it, beam blanked."""
    spoils: Annotated[tuple[Name, ...], Field(max_length=32)] = ()
    """Kinds of calibration that do not hold after it."""

    def times(self, hours: float) -> int:
        """How often it has been due after so many hours."""
        if hours < self.at_h:
            return 0
        return 1 if self.every_h is None else 1 + int((hours - self.at_h) / self.every_h)


Unanswered = Literal["go_on", "skip", "stop"]
"""What becomes of a question that nobody answers."""


class Approval(Strict):
    """Where the night waits for a person, beam blanked, and what becomes of it where nobody answers."""

    before: Annotated[tuple[Literal["night", "remedy"], ...], Field(min_length=1, max_length=2)]
    """``night``: before its first target; ``remedy``: before each further attempt at one."""
    wait_min: Annotated[float, Field(gt=0, le=1440)] = 30.0
    """How long somebody has to answer."""
    otherwise: Unanswered | None = None
    """Where nobody does. By itself nothing is exposed that nobody allowed: no remedy is tried, no night begins."""

    def unanswered(self, before: str) -> Unanswered:
        """What becomes of a question that nobody answers; a night that is skipped is one that stops."""
        if self.otherwise is not None and not (before == "night" and self.otherwise == "skip"):
            return self.otherwise
        return "skip" if before == "remedy" else "stop"


class Night(Strict):
    """What runs until morning."""

    format_version: Literal[1]
    name: Name
    title: Title = ""
    instrument: RelativeFile
    """Instrument file, relative to the night's file."""
    targets: Annotated[tuple[Target, ...], Field(min_length=1, max_length=10000)]
    max_hours: Annotated[float, Field(gt=0, le=MOST_HOURS)] = 14.0
    calibrate: Literal["when_stale", "always"] = "when_stale"
    """``always`` trusts no calibration made before this night."""
    order: Literal["avoid_realignment", "as_written"] = "avoid_realignment"
    """Whether targets of the same settings may be brought together, within priorities and deadlines."""
    overheads: Overheads = Overheads()
    conditions: Conditions = Conditions()
    events: Annotated[tuple[Event, ...], Field(max_length=50)] = ()
    approval: Approval | None = None
    """Whom it asks before what; nobody by itself."""

    @model_validator(mode="after")
    def _events_differ(self) -> "Night":
        times = Counter(event.name for event in self.events)
        twice = sorted(name for name, number in times.items() if number > 1)
        if twice:
            raise Inconsistent("events", some_of(twice), "names of events must differ", "Rename all but one")
        return self

    @model_validator(mode="after")
    def _names_differ(self) -> "Night":
        times = Counter(target.name for target in self.targets)
        twice = sorted(name for name, number in times.items() if number > 1)
        if twice:
            raise Inconsistent("targets", some_of(twice), "names of targets must differ", "Rename all but one")
        return self

    @model_validator(mode="after")
    def _spares_are_there(self) -> "Night":
        place = {target.name: number for number, target in enumerate(self.targets)}
        for target, spare in self._spares():
            field = f"targets[{place[target.name]}].spare_targets"
            if spare not in place:
                raise Inconsistent(field, spare, "is no target of this night", "Name a target that stands further down")
            # A spare stands after what it is for, so no target waits for itself.
            if place[spare] <= place[target.name]:
                raise Inconsistent(field, spare, "has to stand after the target it is for", "Move it further down")
        return self

    def _spares(self) -> Iterator[tuple[Target, str]]:
        return ((target, spare) for target in self.targets for spare in target.spare_targets)

    @property
    def held_back(self) -> frozenset[str]:
        """Names of targets that run only where another was tried in vain."""
        return frozenset(spare for _target, spare in self._spares())
