"""Drivers that load and open well, and then do not keep to the protocols: one lie each, told over the simulator.

Installed as plugins by tests/faults/test_bad_drivers.py; each opens the simulated microscope within its process.
"""

from collections.abc import Callable
from dataclasses import replace
from math import nan
from pathlib import Path
from typing import Any

from devices.protocols import ColumnSetting, Instrument, Reading
from stem4d.approach import StagePose
from stem4d.dose import DoseLease
from stem4d.errors import LimitViolation
from stem4d.instrument import InstrumentFile
from stem4d.model import Range
from tests.devices.conforming import open_simulated


class Over:
    """A part that answers as the one below it, where it has no answer of its own."""

    def __init__(self, below: Any) -> None:
        self.below = below

    def __getattr__(self, name: str) -> Any:
        return getattr(self.below, name)


class ClippingColumn(Over):
    """Sets the nearest that it can do, and says that it did what was asked."""

    def prepare(self, setting: ColumnSetting) -> ColumnSetting:
        optics = setting.optics
        nearest = _nearest(Range(lowest=-20.0, highest=20.0), optics.defocus_nm)
        self.below.prepare(setting.model_copy(update={"optics": optics.model_copy(update={"defocus_nm": nearest})}))
        return setting


class HastyColumn(Over):
    """Sets what it can before it looks at the rest."""

    def prepare(self, setting: ColumnSetting) -> ColumnSetting:
        try:
            return ColumnSetting.model_validate(self.below.prepare(setting))
        except LimitViolation:
            self.below.prepare(ColumnSetting(optics=setting.optics.model_copy(update=SAFE)))
            raise


SAFE = {
    "beam_energy_kev": 200.0,
    "convergence_semi_angle_mrad": 10.0,
    "camera_length_mm": 50.0,
    "probe_current_pa": 1.0,
    "defocus_nm": 0.0,
}


class RoundingColumn(Over):
    """Rounds, and does not say so."""

    def prepare(self, setting: ColumnSetting) -> ColumnSetting:
        rounded = setting.optics.model_copy(update={"defocus_nm": round(setting.optics.defocus_nm / 5) * 5.0})
        self.below.prepare(setting.model_copy(update={"optics": rounded}))
        return setting


class TalkingColumn(Over):
    """Tells readings that are changed on the way."""

    def __init__(self, below: Any, change: Callable[[Reading], Reading | None]) -> None:
        super().__init__(below)
        self._change = change

    def snapshot(self) -> tuple[Reading, ...]:
        return tuple(one for reading in self.below.snapshot() if (one := self._change(reading)) is not None)


class WillingStage(Over):
    """Goes anywhere, by its word."""

    def go_to(self, position: str) -> str:
        if position in ("sample", "other"):
            self.below.go_to(position)
        return position


class ClippingStage(Over):
    """Goes as far as it can."""

    def move_to(self, pose: StagePose) -> StagePose:
        x_um = _nearest(Range(lowest=-800.0, highest=800.0), pose.x_um)
        return StagePose.model_validate(self.below.move_to(pose.model_copy(update={"x_um": x_um})))


class MuteGate(Over):
    """Says that it is blanked, whatever it is."""

    def is_blanked(self) -> bool:
        return True


class StuckGate(Over):
    """Does not blank any more once the beam is on."""

    def blank(self) -> None:
        if self.below.is_blanked():
            self.below.blank()


class LenientGate(Over):
    """Asks nobody how long a lease holds."""

    def unblank(self, lease: DoseLease) -> None:
        self.below.unblank(replace(lease, expires_monotonic_s=1e15))


class ForgetfulGate(Over):
    """Takes the last token for the newest one."""

    def unblank(self, lease: DoseLease) -> None:
        self.below.unblank(replace(lease, token=max(lease.token, self.below.newest_token())))


class OnceStopped(Over):
    """Can be stopped once."""

    def __init__(self, below: Any) -> None:
        super().__init__(below)
        self._stopped = False

    def ensure_stopped(self) -> None:
        if self._stopped:
            raise RuntimeError("already stopped")
        self._stopped = True
        self.below.ensure_stopped()


class CarelessDetector(Over):
    """Counts with whatever depth it has."""

    def prepare(self, request: Any) -> Any:
        return self.below.prepare(request.model_copy(update={"bit_depth": 12}))


class LonelyInstrument(Over):
    """One process at a time, by a file that it leaves."""

    def __init__(self, below: Any, home: Path) -> None:
        super().__init__(below)
        self.watched_by = "another process"
        self._taken = home / "taken"
        if self._taken.exists():
            raise RuntimeError("somebody else is connected")
        self._taken.touch()

    def leave(self) -> None:
        """Never reached."""

    def close(self) -> None:
        self._taken.unlink(missing_ok=True)
        self.below.close()


def _nearest(allowed: Range, value: float) -> float:
    return min(max(value, allowed.lowest), allowed.highest)


def _telling(change: Callable[[Reading], Reading | None]) -> Callable[[Any], Any]:
    return lambda column: TalkingColumn(column, change)


def _defocus(change: Callable[[Reading], Reading | None]) -> Callable[[Any], Any]:
    return _telling(lambda reading: change(reading) if reading.name == "defocus_nm" else reading)


LIES: dict[str, tuple[str, Callable[[Any], Any], str]] = {
    "clips": ("column", ClippingColumn, "column_refuses_what_is_out_of_range"),
    "sets-before-it-refuses": ("column", HastyColumn, "column_refuses_what_is_out_of_range"),
    "rounds": ("column", RoundingColumn, "column_reads_back"),
    "hides": ("column", _defocus(lambda _reading: None), "column_tells_what_changes"),
    "no-unit": ("column", _telling(lambda reading: replace(reading, unit="")), "column_snapshot_is_whole"),
    "no-figure": ("column", _defocus(lambda reading: replace(reading, value=nan)), "column_snapshot_is_whole"),
    "no-zone": (
        "column",
        _telling(lambda reading: replace(reading, read_at=reading.read_at.replace(tzinfo=None))),
        "column_snapshot_is_whole",
    ),
    "old-as-new": (
        "column",
        _telling(lambda reading: replace(reading, read_at=reading.read_at.replace(year=2001))),
        "column_snapshot_is_whole",
    ),
    "goes-anywhere": ("stage", WillingStage, "stage_refuses_unknown_positions"),
    "stops-short": ("stage", ClippingStage, "stage_refuses_poses_out_of_range"),
    "always-blanked": ("gate", MuteGate, "gate_lets_through_and_blanks"),
    "does-not-blank": ("gate", StuckGate, "gate_lets_through_and_blanks"),
    "lenient": ("gate", LenientGate, "gate_refuses_leases_that_are_none"),
    "forgets": ("gate", ForgetfulGate, "gate_refuses_leases_that_are_none"),
    "stops-once": ("scan", OnceStopped, "stopping_does_no_harm"),
    "any-depth": ("detector", CarelessDetector, "detector_refuses_what_it_cannot_do"),
}
"""By name: the part that lies, how, and the check that finds it out."""


def open_liar(file: InstrumentFile, home: Path) -> Instrument:
    """The simulated microscope with the lie of the file's name."""
    instrument: Any = open_simulated(file.model_copy(update={"name": "test-stem"}), home)
    part, lie, _check = LIES[file.name]
    setattr(instrument, part, lie(getattr(instrument, part)))
    assert isinstance(instrument, Instrument)
    return instrument


def open_lonely(file: InstrumentFile, home: Path) -> Instrument:
    """The simulated microscope for one process at a time."""
    lonely: Any = LonelyInstrument(open_simulated(file, home), home)
    assert isinstance(lonely, Instrument)
    return lonely
