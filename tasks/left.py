"""What a session that died left behind, closed: its runs and nights, its bookings, its frames. Twice is as once."""

import time
from dataclasses import dataclass, replace
from pathlib import Path

from db.abandoned import Abandoned, close_abandoned, hopeless, note_hopeless
from db.dose import close_intent
from db.engine import Engine, reader, writer
from db.lease import owner_before
from db.open_intents import open_intents
from db.record import add_event
from devices.beam_times import Witness, witness
from stem4d.errors import NightbeamError
from storage.settings import Settings
from tasks.bounds import bound

SALVAGE_S = 120.0
"""Longest that a session which begins spends on the frames of those before it [s]."""


@dataclass(frozen=True)
class Charged:
    """An exposure whose end nobody wrote, and what its area is charged for it."""

    run: str
    area: str
    exposure: str
    booked_e_per_a2: float
    charged_e_per_a2: float
    origin: str

    @property
    def words(self) -> str:
        """For a person."""
        return (
            f"{self.exposure}: {self.charged_e_per_a2:.4g} of {self.booked_e_per_a2:.4g} e/Å² are charged to "
            f"{self.area}; {self.origin}"
        )


@dataclass(frozen=True)
class Left:
    """What was closed."""

    abandoned: Abandoned
    charged: tuple[Charged, ...] = ()
    saved: tuple[str, ...] = ()
    """What came of the frames, file by file, in words."""

    @property
    def lines(self) -> tuple[str, ...]:
        """For a person, one line for each thing that was closed."""
        names = (*self.abandoned.runs, *self.abandoned.nights)
        closed = tuple(f"{name} was left open by a process that died" for name in names)
        return (*closed, *(one.words for one in self.charged), *self.saved)


def close_left(engine: Engine, settings: Settings, instrument: str, owner_token: int) -> Left:
    """Close runs, nights and bookings that have nobody left, in one transaction; only for the instrument's owner.

    Parameters
    ----------
    engine : Engine
        The database.
    settings : Settings
        Where the column's log is.
    instrument : str
        Its name.
    owner_token : int
        Of who asks: the owner before it is named as the one who left things open.
    """
    told = _told(settings.instruments_folder / instrument)
    charged: list[Charged] = []
    with writer(engine) as session:
        before = owner_before(session, instrument=instrument, token=owner_token)
        who = f"the process that ran it ({before.words})" if before else "the process that ran it"
        left = close_abandoned(session, instrument=instrument, reason=f"{who} ended without closing it")
        for one in open_intents(session, instrument=instrument):
            most = bound(one, told)
            close_intent(
                session,
                intent_id=one.id,
                delivered_e_per_a2=most.fluence_e_per_a2,
                electrons=most.electrons,
                reason=f"upper bound, its end was not recorded: {most.origin}",
            )
            charge = Charged(one.run, one.area, one.name, one.fluence_e_per_a2, most.fluence_e_per_a2, most.origin)
            figures = {"booked_e_per_a2": charge.booked_e_per_a2, "charged_e_per_a2": charge.charged_e_per_a2}
            add_event(session, kind="dose bounded", message=charge.words, data=figures, run_id=one.run_id)
            charged.append(charge)
    return Left(left, tuple(charged))


def save_frames(
    engine: Engine, settings: Settings, left: Left, runs: tuple[str, ...], within_s: float = SALVAGE_S
) -> Left:
    """Save what runs that crashed have on disk, as `nightbeam recover RUN` does, within a time."""
    if not runs:
        return left
    # Imported here and below: few sessions find what crashed, and the others are not kept waiting for it.
    from storage.salvage import recovered_path

    ends_s = time.monotonic() + within_s
    words: list[str] = []
    for run in runs:
        with reader(engine) as session:
            given_up = hopeless(session, run=run)
        for path in sorted((settings.data_folder / run).glob("*.h5.partial")):
            if path.name not in given_up and not recovered_path(path).exists():
                words.append(_saved(engine, settings, path, ends_s))
    return replace(left, saved=tuple(words))


class _TooLongError(NightbeamError):
    """A file that takes longer than there is time."""


def _saved(engine: Engine, settings: Settings, path: Path, ends_s: float) -> str:
    from storage.salvage import NotSaved, Salvaged, salvage
    from tasks.recovered import register_recovered

    def on_bytes(_read: int) -> None:
        if time.monotonic() > ends_s:
            raise _TooLongError(f"it takes too long now; `nightbeam recover {path.parent.name}` saves them")

    try:
        on_bytes(0)
        saved: Salvaged = salvage(path, reserve_bytes=int(settings.disk_reserve_gb * 1e9), on_bytes=on_bytes)
        register_recovered(engine, saved)
    except NotSaved as error:
        with writer(engine) as session:
            note_hopeless(session, run=path.parent.name, file=path.name, why=str(error))
        return f"frames of {path.name} in {path.parent.name}: {error}"
    except NightbeamError as error:
        return f"frames of {path.name} in {path.parent.name}: {error}"
    return f"{saved.frames} of {saved.findings.recorded} flushed frames of {path.name} saved as {saved.path.name}"


def _told(folder: Path) -> Witness | None:
    """What the column's log tells; None where it cannot be read."""
    try:
        return witness(folder)
    except (NightbeamError, OSError):
        return None
