"""The safe ladder and the scope in which a beam may be on: blanked by default, on every way out."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import IntEnum

from devices.protocols import BeamGate, Instrument
from stem4d.dose import DoseLease
from stem4d.errors import DeviceFault, NightbeamError

BLANK = "blank the beam"


class SafeLevel(IntEnum):
    """How far down the ladder to go; each level includes those before it."""

    HOLD = 1
    """Beam blanked, scan stopped."""
    PARK = 2
    """Detector idle, probe parked."""
    SHELTER = 3
    """Column valves closed."""


@dataclass(frozen=True)
class SafeStep:
    """One step that was attempted, and how it went; ``error`` is empty where it worked."""

    name: str
    error: str


@dataclass(frozen=True)
class SafeReport:
    """What was attempted to make an instrument safe."""

    level: SafeLevel
    reason: str
    steps: tuple[SafeStep, ...]

    @property
    def safe(self) -> bool:
        """Whether every step worked."""
        return not any(step.error for step in self.steps)

    @property
    def words(self) -> str:
        """What did not work, for a person; empty where all did."""
        failed = "; ".join(f"{step.name}: {step.error}" for step in self.steps if step.error)
        blanked = all(not step.error for step in self.steps if step.name == BLANK)
        return failed if blanked else f"THE BEAM MAY STILL BE ON. {failed}"


def make_safe(instrument: Instrument, level: SafeLevel, reason: str) -> SafeReport:
    """Attempt every step down to a level, each even if one before it failed; never raises."""
    ladder: list[tuple[SafeLevel, str, Callable[[], None]]] = [
        (SafeLevel.HOLD, BLANK, instrument.gate.blank),
        (SafeLevel.HOLD, "stop the scan", instrument.scan.ensure_stopped),
        (SafeLevel.PARK, "disarm the detector", instrument.detector.ensure_stopped),
        (SafeLevel.SHELTER, "close the column valves", instrument.valves.close),
    ]
    steps = tuple(SafeStep(name, _attempt(action)) for needed, name, action in ladder if needed <= level)
    return SafeReport(level, reason, steps)


def _attempt(action: Callable[[], None]) -> str:
    try:
        action()
    except Exception as error:  # noqa: BLE001 - a failing step must not keep the next from being tried
        return str(error) if isinstance(error, NightbeamError) else f"{type(error).__name__}: {error}"
    return ""


@contextmanager
def exposed(gate: BeamGate, lease: DoseLease) -> Iterator[None]:
    """Beam on within the block, blanked on every way out of it, and seen to be blanked.

    Raises
    ------
    DeviceFault
        Where it cannot be blanked. What went wrong before stands first in it, and is no longer raised by itself:
        nobody may read of a refusal alone while the beam may be on.
    """
    try:
        gate.unblank(lease)
        yield
    except Exception as error:
        if trouble := _blanking(gate):
            raise DeviceFault(f"{error}. THE BEAM MAY STILL BE ON: {trouble}") from error
        raise
    except BaseException:
        _blanking(gate)  # interrupted: whoever parks the instrument next says what does not work
        raise
    else:
        if trouble := _blanking(gate):
            raise DeviceFault(f"THE BEAM MAY STILL BE ON: {trouble}")


def _blanking(gate: BeamGate) -> str:
    """Blank, and say what is wrong with that."""
    try:
        gate.blank()
        if gate.is_blanked() is False:
            return "the beam gate was told to blank and still reports the beam on"
    except Exception as error:  # noqa: BLE001 - any failure to blank has to be told with what came before it
        return str(error)
    return ""
