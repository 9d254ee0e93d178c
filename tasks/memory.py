"""What a session has read of calibrations, so that it can go on while the database is away."""

from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import TYPE_CHECKING, TypeVar

from db.calibrations import CalibrationRecord, Standing, evidence_of, spoiled_by
from db.clock import utc_now
from db.engine import Session, reader
from db.questions.calibrations import evidence_files
from db.recorder import AWAY
from stem4d.errors import BadInput
from tasks.calibrations.recorded import recorded

if TYPE_CHECKING:
    from tasks.lab import Lab

T = TypeVar("T")


@dataclass
class Memory:
    """One session's."""

    standings: dict[tuple[str, str], Standing] = field(default_factory=dict)
    """By kind and mode key, as last heard or measured."""
    evidence: dict[int, tuple[int, ...]] = field(default_factory=dict)
    """Numbers of data sets by that of the calibration."""
    used: dict[str, dict[str, int]] = field(default_factory=dict)
    """Numbers of calibrations by run and role."""
    gone: set[int] = field(default_factory=set)
    """Numbers of those that this session has withdrawn."""

    def measured(self, record: CalibrationRecord, evidence: tuple[int, ...], *, usable: bool) -> None:
        """Keep a calibration of this session; one that failed leaves the one before it as it stands."""
        self.evidence[record.id] = evidence
        if usable:
            self.standings[record.kind, record.mode_key] = Standing("valid", record, "")

    def of_run(self, run: str) -> dict[str, CalibrationRecord]:
        """The calibrations that a run uses, by kind, as far as this session has heard of or measured them."""
        known = {one.calibration.id: one.calibration for one in self.standings.values() if one.calibration}
        return {kind: known[number] for kind, number in self.used.get(run, {}).items() if number in known}

    def withdrawn(self, run: str, kinds: Iterable[str], reason: str) -> dict[str, int]:
        """Mark a run's calibrations as not to be used; gives the number of each that was not marked before."""
        used = self.used.get(run, {})
        gone = {kind: used[kind] for kind in kinds if kind in used and used[kind] not in self.gone}
        self.gone |= set(gone.values())
        for key, one in self.standings.items():
            if one.calibration and one.calibration.id in gone.values():
                self.standings[key] = replace(one, state="withdrawn", why=f"withdrawn by {run}: {reason}")
        return gone

    def spoiled(self, what: str, kinds: Iterable[str], at: datetime) -> None:
        """Let those of some kinds expire."""
        for key, one in self.standings.items():
            if key[0] in kinds and one.state == "valid":
                self.standings[key] = replace(one, state="expired", why=spoiled_by(what, at))

    def standing(self, kind: str, mode_key: str, now: datetime) -> Standing:
        """How a calibration stands by what is known; one that was never heard of is measured anew."""
        found = self.standings.get((kind, mode_key))
        if found is None:
            return Standing("missing", None, "the database is away, and this session has not asked for it before")
        until = found.calibration.valid_until if found.calibration else None
        if found.state == "valid" and until is not None and until <= now:
            return replace(found, state="expired", why=f"it was valid until {until:%Y-%m-%d %H:%M} UTC")
        return found


def _asked(opened: "Lab", question: Callable[[Session], T]) -> T | None:
    """What the database answers; None where it is away, or does not know all since something waits to be recorded."""
    if not opened.recorder.waiting:
        with suppress(*AWAY), reader(opened.engine) as session:
            return question(session)
    return None


def standings_of(opened: "Lab", of_kind: Mapping[str, str], kinds: Iterable[str]) -> dict[str, Standing]:
    """How calibrations stand for mode keys by kind, by the database or else by what it said before."""
    kinds = tuple(kinds)
    if not opened.recorder.waiting:
        with suppress(*AWAY):
            found = recorded(opened.engine, opened.file.name, of_kind, kinds)
            opened.memory.standings |= {(kind, of_kind[kind]): one for kind, one in found.items()}
            return found
    return {kind: opened.memory.standing(kind, of_kind[kind], utc_now()) for kind in kinds}


def evidence_ids(opened: "Lab", record: CalibrationRecord) -> tuple[int, ...]:
    """Numbers of the data sets that a calibration was made from; none where nobody can be asked."""
    if record.id not in opened.memory.evidence:
        found = _asked(opened, lambda session: evidence_of(session, calibration_id=record.id))
        if found is None:
            return ()
        opened.memory.evidence[record.id] = found
    return opened.memory.evidence[record.id]


def evidence_paths(opened: "Lab", record: CalibrationRecord) -> tuple[str, ...]:
    """Where the recordings lie that a calibration was made from.

    Raises
    ------
    BadInput
        Where nobody can be asked.
    """
    here = [opened.recorder.path(one) for one in opened.memory.evidence.get(record.id, ())]
    if here and all(here):
        return tuple(path for path in here if path)
    found = _asked(opened, lambda session: evidence_files(session, calibration_id=record.id))
    if found is None:
        limit = "its recordings cannot be found while the database is away"
        raise BadInput(field=record.kind, value=record.id, limit=limit, remedy="Measure it in this session")
    return tuple(found)
