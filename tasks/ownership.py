"""The lease of an instrument as a running session holds it: renewed in the background, looked at before exposures."""

import getpass
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Event, Lock, Thread
from typing import Literal

from db.engine import Engine, writer
from db.errors import DatabaseAway
from db.lease import LEASE_S, raise_above, release, renew, take
from devices.protocols import BeamGate
from stem4d.errors import InstrumentTaken, NightbeamError
from storage.processes import ProcessMark, lives, this_process

RENEW_EVERY_S = LEASE_S / 4
"""Three renewals may fail before the lease expires [s]."""

_held: set[tuple[str, str]] = set()
"""Database and instrument of the leases that this process holds."""


@dataclass(frozen=True)
class Standing:
    """How a lease stands."""

    state: Literal["held", "away", "lost"]
    """``away``: held, and cannot be renewed now, since the database does not answer."""
    words: str


class Ownership:
    """A lease that this process took. Any thread may renew it or ask how it stands."""

    def __init__(self, engine: Engine, instrument: str, token: int) -> None:
        self._engine, self.instrument, self.token = engine, instrument, token
        self._lock = Lock()
        self._standing = Standing("held", f"{instrument} is held with token {token}")

    @property
    def lost(self) -> str:
        """Who has taken the instrument, once that was seen; empty before."""
        return self._standing.words if self._standing.state == "lost" else ""

    def renew(self) -> Standing:
        """Renew the lease if the database answers; a lease that is lost stays lost, and nothing raises."""
        with self._lock:
            if self._standing.state != "lost":
                try:
                    with writer(self._engine) as session:
                        renew(session, instrument=self.instrument, token=self.token)
                    self._standing = Standing("held", f"{self.instrument} is held with token {self.token}")
                except InstrumentTaken as error:
                    self._standing = Standing("lost", str(error))
                except NightbeamError as error:
                    words = f"{self.instrument} is held with token {self.token}, cannot renew now: {error}"
                    self._standing = Standing("away", words)
            return self._standing

    def check(self) -> Standing:
        """As `renew`, to be asked before an instrument is touched.

        Raises
        ------
        InstrumentTaken
            Where somebody else has the instrument by now.
        """
        standing = self.renew()
        if standing.state == "lost":
            raise InstrumentTaken(standing.words)
        return standing

    def show_to(self, gate: BeamGate) -> None:
        """Make an instrument refuse the owners before this one, and take a token above any that it has seen."""
        seen = gate.see_owner(self.token)
        if seen > self.token:
            with self._lock, writer(self._engine) as session:
                # A column remembers tokens that a new or restored database does not know.
                self.token = raise_above(session, instrument=self.instrument, token=self.token, seen=seen)
            gate.see_owner(self.token)

    def keep(self, ended_within: Callable[[float], bool]) -> None:
        """Renew until the end; ``ended_within`` waits so many seconds for it at most, and says whether it came."""
        while not ended_within(RENEW_EVERY_S):
            self.renew()


@contextmanager
def owning(
    engine: Engine, instrument: str, on_trouble: Callable[[str], None], *, by_force: bool = False
) -> Iterator[Ownership]:
    """Hold the lease of an instrument for the length of the block.

    Raises
    ------
    BadInput
        While another owner's lease holds.
    DatabaseAway
        Without the database no lease is taken.
    """
    key = (str(engine.url), instrument)
    with writer(engine) as session:
        token = take(
            session,
            instrument=instrument,
            owner=who(),
            process=this_process(),
            by_force=by_force,
            lives=lambda process: _lives(process, key),
        )
    _held.add(key)
    owner, ends = Ownership(engine, instrument, token), Event()
    keeper = Thread(target=owner.keep, args=(ends.wait,), daemon=True, name="lease")
    keeper.start()
    try:
        yield owner
    finally:
        ends.set()
        keeper.join()
        _held.discard(key)
        try:
            with writer(engine) as session:
                release(session, instrument=instrument, token=owner.token)
        except DatabaseAway as error:
            on_trouble(f"the lease of {instrument} stays until its process is seen to have ended: {error}")


def who() -> str:
    """Who runs what, for others who want the instrument."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):
        user = "somebody"
    if flow_run := os.environ.get("PREFECT__FLOW_RUN_ID"):
        # The program is Prefect's engine, which says nothing.
        return f"{user} (Prefect's flow run {flow_run[:8]})"
    program = Path(sys.argv[0])
    name = program.parent.name if program.name == "__main__.py" else program.name
    return f"{user} ({' '.join([name, *sys.argv[1:2]])})"


def _lives(process: ProcessMark, key: tuple[str, str]) -> bool | None:
    """Whether an owner is there; this process is one only of what it holds now."""
    return key in _held if process == this_process() else lives(process)
