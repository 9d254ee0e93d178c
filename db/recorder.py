"""Records what a session does: in the database, or in an outbox while that is away, from where it lands later."""

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import count
from threading import RLock

from pydantic import ValidationError
from sqlalchemy.exc import SQLAlchemyError

from db.accounts import Accounts
from db.apply import apply, apply_late
from db.dose import AreaFluence, area_fluence, area_id
from db.engine import Engine, Session, reader, writer
from db.errors import DatabaseAway, DatabaseDamaged
from db.operations import (
    AddCalibration,
    AddDataset,
    AnyOperation,
    AreaKey,
    CalibrationKey,
    CloseIntent,
    DatasetKey,
    OpenIntent,
    OpenRun,
    Operation,
    RegisterArea,
    as_text,
    from_text,
)
from stem4d.errors import BadInput, NightbeamError
from storage.home import unusable
from storage.journal import Entry, Journal

AWAY = (DatabaseAway, DatabaseDamaged)
"""The database does not take anything now, and may do so later."""
BATCH = 200
"""Operations in one transaction of a replay."""


@dataclass(frozen=True)
class Landed:
    """What came of a replay."""

    operations: tuple[AnyOperation, ...] = ()
    """Those that are in the database now, in their order."""
    refused: tuple[str, ...] = ()
    """Why some were set aside."""
    damaged: int = 0
    """Records that could not be read any more."""

    @property
    def words(self) -> str:
        """For a person."""
        parts = [f"{len(self.operations)} records that waited for the database have landed"]
        if self.damaged:
            parts.append(f"{self.damaged} were damaged on the disk and are lost")
        if self.refused:
            parts.append(
                f"{len(self.refused)} were refused and lie beside the outbox, the first since {self.refused[0]}"
            )
        return "; ".join(parts)


def replay(engine: Engine, outbox: Journal) -> Landed:
    """Apply what waits in an outbox, in its order, each operation with its key, and take it off.

    One that the database refuses is set aside in a file beside the outbox, and holds up none of the others.

    Raises
    ------
    DatabaseAway
        Where the database goes away again; what was applied up to then is not applied twice.
    """
    landed: list[AnyOperation] = []
    refused: list[str] = []
    damaged, outbox.damaged = outbox.damaged, 0
    waiting = tuple(outbox.entries())
    for start in range(0, len(waiting), BATCH):
        batch = waiting[start : start + BATCH]
        read = [(entry, _read(entry)) for entry in batch]
        good = [one for _entry, one in read if not isinstance(one, str)]
        try:
            with writer(engine) as session:
                apply_late(session, good)
            landed += good
        except AWAY:
            raise
        except (NightbeamError, SQLAlchemyError):
            for entry, one in read:
                if not isinstance(one, str) and (why := _alone(engine, one)):
                    refused.append(_set_aside(outbox, entry, why))
                elif not isinstance(one, str):
                    landed.append(one)
        refused += [_set_aside(outbox, entry, one) for entry, one in read if isinstance(one, str)]
        outbox.take_off(batch[-1])
    return Landed(tuple(landed), tuple(refused), damaged)


def _read(entry: Entry) -> AnyOperation | str:
    try:
        return from_text(entry.text)
    except (ValidationError, BadInput) as error:
        return f"no operation that this version knows: {str(error).splitlines()[0]}"


def _alone(engine: Engine, one: AnyOperation) -> str:
    """Apply one operation in a transaction of its own; gives why it is refused, or nothing."""
    try:
        with writer(engine) as session:
            apply_late(session, [one])
    except AWAY:
        raise
    except (NightbeamError, SQLAlchemyError) as error:
        return f"{one.kind}: {str(error).splitlines()[0]}"
    return ""


def _set_aside(outbox: Journal, entry: Entry, why: str) -> str:
    try:
        with outbox.path.with_suffix(".refused").open("a", encoding="ascii") as file:
            file.write(f"{why!a}\t{entry.text}\n")
    except OSError as error:
        raise unusable(error) from None
    return why


@dataclass(frozen=True)
class Acquired:
    """What a run has come to."""

    size_bytes: int = 0
    """Of its acquisitions."""
    delivered_e_per_a2: float = 0.0
    """By its acquisitions [e/Å²]."""
    scans: int = 0
    """Data sets that were no acquisitions."""


class Recorder:
    """One session's record.

    Rows that the database has not numbered yet have negative numbers of this session: they stand for keys of ours
    wherever the number of a row is handed on.

    Parameters
    ----------
    engine : Engine
        The database.
    outbox : Journal
        Where operations wait while it is away.
    on_change : callable
        Told once when the database goes away, and once when it is back: a word and a sentence.
    """

    def __init__(self, engine: Engine, outbox: Journal, on_change: Callable[[str, str], None]) -> None:
        self._engine, self._outbox, self._on_change = engine, outbox, on_change
        self._lock = RLock()
        self._provisional = count(-1, -1)
        self._areas: dict[int, AreaKey] = {}
        self._datasets: dict[int, DatasetKey] = {}
        self._calibrations: dict[int, CalibrationKey] = {}
        self._paths: dict[int, str] = {}
        self._intents: dict[str, OpenIntent] = {}
        self._acquired: dict[str, Acquired] = {}
        self.accounts = Accounts()

    @property
    def waiting(self) -> bool:
        """Whether something waits in the outbox: the database does not know all then, whether it answers or not."""
        return self._outbox.waiting > 0

    def record(self, one: Operation) -> int:
        """Record an operation: at once, or later; gives the number of its row, a negative one where it comes later.

        Raises
        ------
        DoseRefused, BadInput
            Where it is refused; nothing was recorded.
        DiskFull
            Where the database is away and the outbox is full, too.
        """
        with self._lock:
            row_id = None if self.waiting else self._apply(one)
            if row_id is None:
                row_id = self._keep(one)
            self._remember(one, row_id)
            return row_id

    def learn(self, keys: Sequence[AreaKey]) -> None:
        """Look up areas that may be wanted while the database is away."""
        if self.waiting:
            return
        with suppress(*AWAY), reader(self._engine) as session:
            for key in keys:
                self.accounts.heard(key, _account(session, key))

    def left_e_per_a2(self, key: AreaKey) -> float | None:
        """What an area may still receive [e/Å²]: never more than is true; None where nothing is known of it."""
        with self._lock:
            self.learn([key])
            return self.accounts.left_e_per_a2(key)

    def settle(self) -> Landed | None:
        """Try again what waits; gives what has landed, None where nothing waited or the database is still away."""
        with self._lock:
            if not self.waiting:
                return None
            try:
                landed = replay(self._engine, self._outbox)
            except AWAY:
                return None
            self._on_change("database back", landed.words)
            return landed

    def area(self, area_id: int) -> AreaKey:
        """The key of an area that this session registered."""
        return self._areas[area_id]

    def dataset(self, dataset_id: int) -> DatasetKey | int:
        """What stands for a data set in an operation."""
        return self._datasets.get(dataset_id, dataset_id)

    def calibration(self, calibration_id: int) -> CalibrationKey | int:
        """What stands for a calibration in an operation."""
        return self._calibrations.get(calibration_id, calibration_id)

    def acquired(self, run: str) -> Acquired:
        """What a run of this session has come to."""
        return self._acquired.get(run, Acquired())

    def path(self, dataset_id: int) -> str | None:
        """Where a data set of this session lies."""
        return self._paths.get(dataset_id)

    def _apply(self, one: Operation) -> int | None:
        try:
            with writer(self._engine) as session:
                row_id = apply(session, one)
                account = _account(session, one.area) if isinstance(one, RegisterArea | OpenRun) else None
        except AWAY as error:
            self._on_change(
                "database away", f"{error}. The run goes on: its records wait in {self._outbox.path} until it is back"
            )
            return None
        if account is not None:
            assert isinstance(one, RegisterArea | OpenRun)
            self.accounts.heard(one.area, account)
        return 0 if row_id is None else row_id

    def _keep(self, one: Operation) -> int:
        match one:
            case OpenIntent():
                self.accounts.allow(one)
            case RegisterArea() | OpenRun():
                self._refuse_other_budget(one)
        self._outbox.append(as_text(one), urgent=one.urgent)
        return next(self._provisional)

    def _refuse_other_budget(self, one: RegisterArea | OpenRun) -> None:
        key, known = one.area, self.accounts.budget_e_per_a2(one.area)
        if known is None and isinstance(one, RegisterArea) and not one.specimen:
            self.accounts.heard(key, None)
        elif known is None:
            raise DatabaseAway(
                f"area {key.name} of sample {key.sample}: what it has received is not known while the database is away"
            )
        elif known != key.fluence_budget_e_per_a2:
            raise BadInput(
                field=f"fluence budget of area {key.name}",
                value=key.fluence_budget_e_per_a2,
                limit=f"this area was registered with {known:g} e/Å², and a budget is not changed by a plan",
                unit="e/Å²",
                remedy="Keep that budget, or name another area",
            )

    def _remember(self, one: Operation, row_id: int) -> None:
        match one:
            case RegisterArea():
                self._areas[row_id] = one.area
            case OpenIntent():
                self.accounts.booked(one)
                self._intents[one.token] = one
            case CloseIntent():
                self.accounts.closed(one)
                intent = self._intents.pop(one.token, None)
                if intent is not None and intent.purpose == "acquisition":
                    was = self.acquired(intent.run)
                    delivered = was.delivered_e_per_a2 + one.delivered_e_per_a2
                    self._acquired[intent.run] = replace(was, delivered_e_per_a2=delivered)
            case AddDataset():
                was = self.acquired(one.dataset.run)
                if one.purpose == "acquisition":
                    was = replace(was, size_bytes=was.size_bytes + one.size_bytes)
                else:
                    was = replace(was, scans=was.scans + 1)
                self._acquired[one.dataset.run] = was
                self._datasets[row_id] = one.dataset
                self._paths[row_id] = one.path
            case AddCalibration():
                self._calibrations[row_id] = one.calibration


def _account(session: Session, key: AreaKey) -> AreaFluence | None:
    known = area_id(session, sample=key.sample, area=key.name)
    return None if known is None else area_fluence(session, area_id=known)
