"""What a remedy is, what is known when one is chosen, and what a plan becomes with it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from math import inf

from stem4d.calibrate.pixels import Mask
from stem4d.instrument import InstrumentFacts
from stem4d.maps import RunMaps
from stem4d.model import Strict
from stem4d.plan import Action, Plan, Sample
from stem4d.predict import predict
from stem4d.quality.regions import PatternGeometry, Subject, subject_of_plan
from stem4d.rules.advice import apply_change
from stem4d.verdict import Change, QualityResult

AREA = "sample.area"
TRACK = "exposure.track_drift"


def _number(value: bool | float | str) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


class Setting(Strict):
    """One setting of the plan that a remedy changes."""

    field: str
    before: bool | float | str
    after: bool | float | str
    unit: str = ""

    def __str__(self) -> str:
        if not _number(self.before) or not _number(self.after):
            return f"{self.field} {self.before} to {self.after}"
        return f"{self.field} {self.before:g} to {self.after:g} {self.unit}".rstrip()


class Wait(Strict):
    """A drift to be waited for."""

    below_nm_per_min: float
    baseline_s: float
    """Between the two reference scans that tell the rate: as long as they still show the same of the specimen."""


class Remedy(Strict):
    """An action that was decided on, with what it is expected to cost."""

    action: Action
    cause: str
    """The metric that failed."""
    reason: str
    cost: str
    """In words."""
    changes: tuple[Setting, ...] = ()
    withdraws: tuple[str, ...] = ()
    """Kinds of calibration that the data contradict and that are measured again."""
    wait: Wait | None = None
    """What the next attempt waits for before it exposes."""
    fluence_e_per_a2: float = 0.0
    """Expected of the next attempt, by the current as it was counted."""
    seconds: float = 0.0
    """Of the instrument's time, expected of the next attempt."""

    @property
    def words(self) -> str:
        """The action with what it changes."""
        told = "; ".join(str(each) for each in self.changes)
        return f"{self.action} ({told})" if told else self.action


@dataclass(frozen=True)
class NoRemedy:
    """Why nothing is done."""

    reason: str


@dataclass(frozen=True)
class Means:
    """What there is to mend with."""

    fluence_left_e_per_a2: float
    """What the area may still receive."""
    spare_left_e_per_a2: Mapping[str, float] = field(default_factory=dict)
    """What each spare area of the plan may receive."""
    seconds_left: float = inf
    """Of the time that the policy allows for mending."""
    attempts_left: int = 1
    current_ratio: float = 1.0
    """True over commanded current, as calibrated."""
    facts: InstrumentFacts | None = None
    """None leaves the instrument's limits unknown: none then holds."""


@dataclass(frozen=True)
class Situation:
    """Everything that a remedy is chosen from."""

    results: tuple[QualityResult, ...]
    plan: Plan
    maps: RunMaps
    """What was recorded in the last pass."""
    means: Means
    geometry: PatternGeometry | None = None
    """The calibrated disk."""
    bad_pixels: Mask | None = None

    @cached_property
    def subject(self) -> Subject:
        """What is known of the recording."""
        return subject_of_plan(self.plan, self.maps, self.bad_pixels, self.geometry)

    @property
    def counted(self) -> float:
        """Counts of a pattern."""
        return float(self.maps.total[self.maps.recorded].mean()) if self.maps.frames else 0.0

    @property
    def booked_ratio(self) -> float:
        """What the next exposure gives over what its plan predicts: a beam that was brighter stays so."""
        return max(1.0, self.means.current_ratio, self.counted / predict(self.plan).electrons_per_pattern)

    @property
    def pass_time_s(self) -> float:
        """Of one pass as it was planned [s]."""
        return predict(self.plan).pass_time_s

    @property
    def shortest_dwell_us(self) -> float:
        """Of scan and detector [µs]; 0 where nothing is known of them."""
        facts = self.means.facts
        if facts is None:
            return 0.0
        detector, setup = facts.detector(self.plan.detector.name), self.plan.detector
        frame_us = 1e6 / detector.frame_rate_hz(setup.bit_depth, setup.shape) if detector is not None else 0.0
        return max(facts.dwell_time_us.lowest, frame_us)


def changed(plan: Plan, remedy: Remedy) -> Plan:
    """The plan with a remedy's changes in it; the dead time between dwell and exposure stays what it was.

    Raises
    ------
    ValueError
        If the changed plan is not a plan.
    """
    for each in remedy.changes:
        if isinstance(each.after, str):
            plan = plan.model_copy(update={"sample": _moved(plan.sample, each.after)})
        elif isinstance(each.after, bool):
            plan = plan.model_copy(update={"exposure": plan.exposure.model_copy(update={"track_drift": each.after})})
        else:
            plan = apply_change(plan, Change(field=each.field, value=each.after, unit=each.unit))
    return plan


def _moved(sample: Sample, area: str) -> Sample:
    """Another area, which is no spare one any more; the one that is left is not come back to."""
    rest = tuple(each for each in sample.spare_areas if each != area)
    return Sample.model_validate(sample.model_dump() | {"area": area, "spare_areas": rest})
