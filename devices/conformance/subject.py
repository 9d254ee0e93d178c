"""What the checks work with: the driver, what they may do to its instrument, and what they say when it fails."""

import time
from collections.abc import Iterable
from dataclasses import dataclass
from math import isclose
from pathlib import Path

from devices.protocols import ColumnSetting, ExposureRequest, Instrument, Reading, ScanRequest
from stem4d.approach import StagePose
from stem4d.dose import DoseLease
from stem4d.instrument import InstrumentFile
from stem4d.model import Strict

SAME = {"commanded": 1e-9, "cached": 1e-9, "measured": 1e-3}
"""Fraction by which two readings of one state may differ, by their source: what is measured is never twice the same."""
READ_BACK = 1e-3
"""Fraction by which a device may round what it is asked for; the same that a run allows."""
NEAR_ZERO = 1e-6
"""In the unit of the value, for what is asked to be zero."""


class Fails(AssertionError):
    """The driver does not do what the protocols say."""


class NotApplicable(Exception):
    """The instrument has no such part, or the check may not use it."""


@dataclass(frozen=True)
class Subject:
    """A driver with an instrument to try it on, and what may be done there.

    Parts that are left empty are not checked, and reported as such. Nothing goes beyond what is stated here, besides
    requests that have to be refused.
    """

    driver: str
    """``module:function``, as its entry point has it; another process opens it by this."""
    file: InstrumentFile
    home: Path
    settings: tuple[ColumnSetting, ColumnSetting] | None = None
    """Two that the column can do."""
    positions: tuple[str, str] | None = None
    """Two named positions of the stage, where the beam does no harm."""
    pose: StagePose | None = None
    """One that it can be sent to from the second of them, of a stage that has poses."""
    scan: ScanRequest | None = None
    exposure: ExposureRequest | None = None
    """One frame for each of the scan's positions."""
    may_unblank: bool = False
    """Whether the beam may be let through, on the first of the positions; for less than a minute in all."""
    may_close_valves: bool = False

    def lease(self, instrument: Instrument, lasts_s: float = 60.0, older: int = 0, earlier_owner: int = 0) -> DoseLease:
        """A lease that the gate takes: the newest token, and the newest owner's; or one that is that much older."""
        gate = instrument.gate
        return DoseLease(
            area=self.positions[0] if self.positions else "conformance",
            fluence_e_per_a2=1.0,
            token=max(gate.newest_token(), 1) - older,
            expires_monotonic_s=time.monotonic() + lasts_s,
            owner_token=gate.see_owner(0) - earlier_owner,
            exposure="conformance",
        )


def need(holds: bool, words: str) -> None:
    """Say that the driver fails where something does not hold."""
    if not holds:
        raise Fails(words)


def applies(holds: bool, words: str) -> None:
    """Say that the check cannot be made where something does not hold."""
    if not holds:
        raise NotApplicable(words)


def need_close(what: str, asked: Strict, got: Strict) -> None:
    """Compare field by field, as a run compares what a device resolved."""
    for name in type(asked).model_fields:
        one, other = getattr(asked, name), getattr(got, name)
        if isinstance(one, Strict):
            need_close(f"{what}.{name}", one, other)
        else:
            need(_close(one, other), f"{what}.{name}: asked for {one}, it says {other} and raises nothing")


def _close(one: object, other: object) -> bool:
    if isinstance(one, tuple) and isinstance(other, tuple):
        return len(one) == len(other) and all(_close(a, b) for a, b in zip(one, other, strict=True))
    if isinstance(one, float) and isinstance(other, float):
        return isclose(one, other, rel_tol=READ_BACK, abs_tol=NEAR_ZERO)
    return one == other


def changes(before: Iterable[Reading], after: Iterable[Reading]) -> list[str]:
    """What differs between two snapshots, in words."""
    one, other = ({reading.name: reading for reading in readings} for readings in (before, after))
    found = [f"{name} is there once only" for name in sorted(one.keys() ^ other.keys())]
    return found + [
        f"{name} went from {was.value} to {other[name].value} {was.unit}".rstrip()
        for name, was in one.items()
        if name in other and not _same(was, other[name])
    ]


def _same(one: Reading, other: Reading) -> bool:
    a, b = one.value, other.value
    if isinstance(a, float | int) and isinstance(b, float | int):
        return isclose(a, b, rel_tol=SAME[one.source], abs_tol=NEAR_ZERO)
    return a == b
