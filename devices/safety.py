"""The safe ladder and the scope in which a beam may be on: blanked by default, on every way out."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import IntEnum

from devices.interrupts import uninterrupted
from devices.protocols import BeamGate, Instrument
from stem4d.dose import DoseLease
from stem4d.errors import DeviceFault, NightbeamError

BLANK = "blank the beam"
SHUT = "close the column valves"
STILL_ON = "the beam gate was told to blank and still reports the beam on"


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
    def beam_off(self) -> bool:
        """Whether the beam is off the specimen: blanked, or shut out by the valves."""
        return any(not step.error for step in self.steps if step.name in (BLANK, SHUT))

    @property
    def words(self) -> str:
        """What did not work, for a person; empty where all did."""
        failed = "; ".join(f"{step.name}: {step.error}" for step in self.steps if step.error)
        return failed if self.beam_off else f"THE BEAM MAY STILL BE ON. {failed}"


def make_safe(instrument: Instrument, level: SafeLevel, reason: str) -> SafeReport:
    """Attempt every step down to a level, each even if one before it failed; never raises for a step.

    Where the beam cannot be blanked the column valves are closed next, whatever the level: nothing else is left that
    takes it off the specimen, and what comes after may take long. Ctrl+C and SIGTERM wait until all was attempted.
    """
    with uninterrupted():
        steps = [SafeStep(BLANK, _attempt(lambda: _blank(instrument.gate)))]
        if steps[0].error or level >= SafeLevel.SHELTER:
            steps.append(SafeStep(SHUT, _attempt(instrument.valves.close)))
        steps.append(SafeStep("stop the scan", _attempt(instrument.scan.ensure_stopped)))
        if level >= SafeLevel.PARK:
            steps.append(SafeStep("disarm the detector", _attempt(instrument.detector.ensure_stopped)))
    return SafeReport(level, reason, tuple(steps))


def _blank(gate: BeamGate) -> None:
    """Blank, and see that it is blanked; a gate that cannot tell is believed."""
    gate.blank()
    if gate.is_blanked() is False:
        raise DeviceFault(STILL_ON)


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


def blank_first(gate: BeamGate) -> None:
    """Blank before anything else that an error asks for; what is wrong with that is told by who blanks next."""
    _blanking(gate)


def _blanking(gate: BeamGate) -> str:
    """Blank, and say what is wrong with that."""
    with uninterrupted():
        return _attempt(lambda: _blank(gate))
