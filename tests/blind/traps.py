"""Traps: exposures that an estimator must refuse, or answer rightly all the same, and what it made of them.

A trap is right where every figure that came out lies within the limit for it or three of its quoted sigmas,
and no sigma is so large that the figure is of no use. Some traps no data can tell: there the estimator's documentation
has to say so, and a nominal value given more tightly has to refuse them. They are listed as stated, never as right.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from math import isfinite

from tests.blind.outcomes import Outcome

SIGMAS = 3.0
USEFUL = 3.0
"""Quoted sigma over the limit, beyond which an answer is of no use."""
LONGEST_REASON = 110


@dataclass(frozen=True)
class Trap:
    """One case: what is rendered and fed to the estimator."""

    estimator: str
    name: str
    run: Callable[[], list[Outcome]]
    stated: str = ""
    """Why no data can tell this case, and where that is said; empty for all others."""
    quick: bool = False
    """Whether it belongs to the fast tests."""


@dataclass(frozen=True)
class Verdict:
    """What came of a trap."""

    trap: Trap
    outcomes: tuple[Outcome, ...]

    @property
    def wrong(self) -> tuple[Outcome, ...]:
        """Answers that are neither right nor refused."""
        return tuple(one for one in self.outcomes if not one.reason and not right(one))

    @property
    def refused(self) -> str:
        """The reasons that were given; empty where every figure was answered."""
        return "; ".join(dict.fromkeys(one.reason for one in self.outcomes if one.reason))

    def __str__(self) -> str:
        if self.wrong:
            told = ", ".join(f"{one.figure} off by {one.error:.3g} ± {one.sigma:.2g} {one.unit}" for one in self.wrong)
            head = "stated" if self.trap.stated else "WRONG"
            told = f"{head}: {told}"
        elif self.refused:
            told = f"refused: {self.refused[:LONGEST_REASON]}"
        else:
            worst = max(self.outcomes, key=lambda one: abs(one.error) / one.limit if one.limit else 0.0)
            told = f"answered rightly: {worst.figure} off by {worst.error:.2g} ± {worst.sigma:.2g} {worst.unit}"
        return f"{self.trap.estimator:18s} {self.trap.name:58s} → {told}"


def right(one: Outcome) -> bool:
    """Whether a figure is within its limit or three quoted sigmas, and known well enough to be of use."""
    if not isfinite(one.error):
        return False
    sigma = one.sigma if isfinite(one.sigma) else 0.0
    return abs(one.error) <= max(one.limit, SIGMAS * sigma) and sigma <= USEFUL * max(one.limit, 1e-12)


def spring(traps: Iterable[Trap]) -> list[Verdict]:
    """Run every trap."""
    return [Verdict(trap, tuple(trap.run())) for trap in traps]


def all_traps() -> tuple[Trap, ...]:
    """Every trap, estimator by estimator."""
    from tests.blind import traps_lattice, traps_moving, traps_scan, traps_vacuum

    return (*traps_lattice.TRAPS, *traps_scan.TRAPS, *traps_moving.TRAPS, *traps_vacuum.TRAPS)
