"""A night that goes on: what is open, what is next, who waits as a spare, and how long targets really take."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from math import inf
from uuid import UUID

from db.clock import utc_now
from db.errors import DatabaseAway
from flows.conditions import Waiting
from flows.control import TOO_LATE, Control
from flows.events import Events
from flows.queue import Queued
from flows.resume import Broken, broken_of
from flows.run import Outcome
from flows.status import StatusFile
from stem4d.errors import NightbeamError
from stem4d.maintenance import next_maintenance
from stem4d.night import BY_A_PERSON, TIMED, Night, Target, TargetState
from stem4d.order import Mode, Visit, change_s, visit_of
from stem4d.predict import predict
from stem4d.schedule import Measured, Schedule, in_words, schedule
from tasks.lab import Lab

IN_VAIN = (TargetState.MARKED, TargetState.REFUSED, TargetState.FAILED, TargetState.SKIPPED)
"""Ends of a target that was tried, after which a spare takes its place."""
MOST_FAULTS = 3
"""Targets in a row that a fault of the machines ended, each of them twice: the night then needs a person."""
Leave = Callable[[str, str, bool], None]
"""Leaves a target out, for a reason; whether another night may have it."""


@dataclass
class Going:
    """The targets of a night while it runs, all by name."""

    opened: Lab
    night: Night
    listed: tuple[Queued, ...]
    night_id: int
    name: str
    ids: Mapping[str, int]
    started: datetime
    ended: Mapping[str, Outcome] = field(default_factory=dict)
    """Of a night that goes on: what had ended before."""
    broken: Mapping[str, Broken] = field(default_factory=dict)
    """Of a night that goes on: what had been run of the rest."""
    measured: Measured = field(default_factory=Measured)
    """What targets really took; of a night that goes on, from those before."""
    now: Callable[[], datetime] = utc_now

    def __post_init__(self) -> None:
        self.queued = {one.target.name: one for one in self.listed}
        self.outcomes: list[tuple[Target, Outcome]] = [
            (self.queued[name].target, outcome) for name, outcome in self.ended.items()
        ]
        held = self.night.held_back
        todo = [name for name in self.queued if name not in self.ended]
        self._open = {name for name in todo if name not in held or name in self.broken}
        self._reserve = [name for name in todo if name not in self._open]
        for name, outcome in self.ended.items():
            used = any(spare in self.broken or spare in self.ended for spare in self.queued[name].target.spare_targets)
            wanted = not outcome.reason.startswith((BY_A_PERSON, TOO_LATE))
            if outcome.state in IN_VAIN and outcome.runs and wanted and not used:
                self._call_spare(name)
        self.faults: dict[str, Outcome] = {}
        """Targets that a fault of the machines has ended once, to be tried once more."""
        self.prefect_lost = ""
        self.flow_run: UUID | None = None
        """Of the night in Prefect, where it has one."""
        self._faults_in_a_row = 0
        self._mode: Mode | None = None
        self._took: dict[str, tuple[float, float]] = {}
        self._told_waiting: frozenset[str] = frozenset()
        self._session, self._at_s = self.now(), 0.0
        self._began_s = self._at_s = self._clock_s()
        self.hours, self._why_over = self.night.max_hours, f"the night's {self.night.max_hours:g} h are over"
        if coming := next_maintenance(self.opened.settings.maintenance, self.opened.file.name, self._session):
            window, begins = coming
            left_h = (begins - self._session).total_seconds() / 3600
            if left_h < self.hours:
                self.hours = left_h
                self._why_over = f"{window.reason} of the instrument begins at {begins:%Y-%m-%d %H:%M %Z}"
        folder = self.opened.settings.instruments_folder / self.opened.file.name
        self.status = StatusFile(folder)
        self.events = Events(
            self.opened,
            self.night.events,
            lambda: self._elapsed_s() / 3600,
            lambda: self.control.between(),
            self._waits,
        )
        self.control = Control(self.opened, folder, lambda: frozenset((*self._open, *self._reserve)), self._show)

    @property
    def open(self) -> tuple[str, ...]:
        """Targets that have not ended and are no spares that wait, as they were written."""
        return tuple(name for name in self.queued if name in self._open)

    def runs_of(self, name: str) -> tuple[str, ...]:
        """Runs that a target that was broken off had before."""
        if name in self.faults:
            return self.faults[name].runs
        return self.broken[name].runs if name in self.broken else ()

    def held_back(self) -> tuple[str, ...]:
        """Spares that wait."""
        return tuple(self._reserve)

    @contextmanager
    def heard(self) -> Iterator[None]:
        """Orders are obeyed and the status is kept for the length of the block."""
        self.control.refuse_old()
        self._show()
        leave = self.status.follow(self.opened)
        self.opened.break_off, self.opened.between = self.control.break_off, self.between
        try:
            yield
        finally:
            leave()
            self.opened.break_off = self.opened.between = lambda: ""
            self.opened.needs = ()
            self.control.close()

    def between(self) -> str:
        """Why the running target is to end here: a person wants it, conditions are bad for too long, it is too late."""
        return self.control.between() or self.wait() or self._too_late()

    def _too_late(self) -> str:
        """Whether the night's end or the running target's deadline has passed, as in a pause."""
        name = self.control.running
        if name and self._visit(name).deadline_s <= 0:
            # Its end for good, as of one that a person does not want: a later night is too late as well.
            self.control.skipped[name] = f"{TOO_LATE}{self._when(name)} has passed"
            return self.control.skipped[name]
        over = self._elapsed_s() >= 3600 * self.hours
        return self._why_over if over else ""

    def wait(self) -> str:
        """Wait until conditions are good; where they do not become so, the night is to end, and this is why."""
        # Before a target there has to be room for one at least: it would be refused for good by its plan's check.
        open_plans = [] if self.control.running else [self.queued[name].plan for name in self._open]
        least = min((predict(plan).raw_bytes for plan in open_plans), default=0)
        why = Waiting(self.opened, self.night.conditions, self.control.between, self._waits, least).until_good()
        if why and not self.control.stopped and self.control.running not in self.control.skipped:
            self.control.stopped = why
        return why

    def _waits(self, cause: str) -> None:
        self.status.set(waiting_for=cause, state="waiting" if cause else "running")

    def asked_to_skip(self) -> tuple[tuple[str, str], ...]:
        """Targets that a person does not want, and why."""
        skipped = self.control.skipped
        for name in [name for name in self._reserve if name in skipped]:
            self._reserve.remove(name)
            self._open.add(name)
        return tuple((name, skipped[name]) for name in self.open if name in skipped)

    def choose(self, leave: Leave) -> str | None:
        """The next target; what there is no time for any more is left out. None where nothing is next."""
        visits = tuple(self._visit(name) for name in self.open)
        left_s = 3600 * self.hours - self._elapsed_s()
        as_written = self.night.order == "as_written"
        ratio, overheads = self.measured.ratio, self.night.overheads
        seen = schedule(visits, left_s, overheads, self._mode, ratio, as_written=as_written)
        for one in seen.lost:
            when = "" if one.for_night else self._when(one.visit.name)
            leave(one.visit.name, one.reason + when, one.for_night)
        self._tell_waiting(seen)
        self._show(seen)
        return seen.placed[0].visit.name if seen.placed else None

    @contextmanager
    def timed(self, name: str) -> Iterator[None]:
        """A target runs for the length of the block."""
        visit, began_s = self._visit(name), self._clock_s()
        self.control.running, self.opened.needs = name, self.queued[name].target.needs
        one = self.queued[name]
        place = {"sample": one.plan.sample.name, "area": one.plan.sample.area}
        number = len(self.outcomes) + 1
        self.status.set(target={"name": name, "number": number, "plan": one.plan.name, **place}, run=None, stage="")
        predicted_s = visit.seconds + change_s(self._mode, visit.mode, self.night.overheads)
        yield
        self._mode = visit.mode
        self._took[name] = predicted_s, self._clock_s() - began_s

    def broken_off(self, name: str) -> Broken | None:
        """What had been run of a target before, in this session or an earlier one; None where nothing had.

        Raises
        ------
        NightbeamError
            Where the database, which alone knows, is away.
        """
        if name not in self.faults:
            return self.broken.get(name)
        if self.opened.recorder.waiting:
            raise DatabaseAway("what was run of it waits for the database")
        return broken_of(self.opened, self.ids[name], self.faults[name].runs)

    def put_back(self, name: str, outcome: Outcome) -> None:
        """A fault has ended a target that is to be tried once more."""
        self.faults[name] = outcome
        self._took.pop(name, None)
        self.control.running = ""
        self._show()

    def stop_after_faults(self) -> None:
        """End the night where the machines failed with one target after the other: the next ones would meet it too."""
        if self._faults_in_a_row >= MOST_FAULTS and not self.control.stopped:
            last = self.outcomes[-1][1].reason
            self.control.stopped = f"{MOST_FAULTS} targets in a row met a fault of the machines: {last}"

    def took(self, name: str) -> tuple[float, float] | None:
        """What a target that has been run was predicted to take, and what it took [s]; None before its end."""
        return self._took.get(name)

    def end(self, name: str, outcome: Outcome) -> None:
        """A target has ended."""
        if outcome.runs or outcome.fault:
            # What never ran says nothing of the machines.
            self._faults_in_a_row = self._faults_in_a_row + 1 if outcome.fault else 0
        self._open.discard(name)
        self._reserve = [one for one in self._reserve if one != name]
        self.outcomes.append((self.queued[name].target, outcome))
        if name == self.control.running:
            self.control.running = ""
        if took := self._took.pop(name, None):
            if outcome.state in TIMED:
                self.measured = self.measured.with_target(*took)
            if outcome.state in IN_VAIN and not outcome.broken_off:
                self._call_spare(name)
        self._show()

    def _call_spare(self, name: str) -> None:
        """The first spare of a target that is still there is a target like others from now on."""
        spare = next((one for one in self.queued[name].target.spare_targets if one in self._reserve), None)
        if spare is not None:
            self._reserve.remove(spare)
            self._open.add(spare)
            self.opened.tell("spare", f"{spare} takes the place of {name}")

    def _visit(self, name: str) -> Visit:
        one = self.queued[name]
        due = one.target.due(self.started)
        deadline_s = inf if due is None else (due - self._session).total_seconds() - self._elapsed_s()
        facts, overheads = self.opened.file.facts, self.night.overheads
        return visit_of(name, one.plan, facts, overheads, one.target.priority, deadline_s)

    def _when(self, name: str) -> str:
        due = self.queued[name].target.due(self.started)
        return f" ({due.astimezone(UTC):%Y-%m-%d %H:%M} UTC)" if due else ""

    def _clock_s(self) -> float:
        """The instrument's clock; as it was last where the instrument does not answer, which its targets will say."""
        with suppress(NightbeamError):
            self._at_s = self.opened.instrument.now_s()
        return self._at_s

    def _elapsed_s(self) -> float:
        return self._clock_s() - self._began_s

    def _tell_waiting(self, seen: Schedule) -> None:
        """An event when other targets than before are not expected to fit."""
        names = frozenset(one.visit.name for one in seen.waiting)
        if names != self._told_waiting:
            self._told_waiting = names
            listed = "; ".join(f"{one.visit.name}: {one.reason}" for one in seen.waiting)
            ratio = self.measured.ratio
            words = f"not expected to fit: {listed}" if names else "all that is left is expected to fit again"
            self.opened.tell("time", words, ratio=round(ratio, 3), ends_in_s=round(seen.ends_s, 1))

    def _show(self, seen: Schedule | None = None) -> None:
        if seen is not None:
            end = self.now() + timedelta(seconds=seen.ends_s)
            until = self._session + timedelta(hours=self.hours)
            self.status.facts |= {
                "predicted_end": end.isoformat(timespec="seconds"),
                "predicted_left": in_words(seen.ends_s),
                "ends_by": until.isoformat(timespec="seconds"),
                "not_expected": [one.visit.name for one in seen.waiting],
            }
        self.status.set(
            night=self.name,
            title=self.night.title or self.night.name,
            instrument=self.opened.file.name,
            state="paused" if self.control.paused else "running",
            stopping=self.control.stopped,
            targets=len(self.queued),
            open=[*self.open, *self._reserve],
            ended=dict(Counter(outcome.state.value for _target, outcome in self.outcomes)),
            ratio=round(self.measured.ratio, 3),
        )
