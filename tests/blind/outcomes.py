"""What came of blind estimates: errors held against limits and quoted uncertainties, and the table of it all."""

from collections.abc import Iterable
from dataclasses import dataclass
from math import nan

import numpy as np

LOWEST_COVERAGE, HIGHEST_COVERAGE = 0.60, 0.76
"""Part of the errors within one quoted sigma, in whole percents: 68 % where it is honest, give or take the 2 % by which
400 truths scatter."""
NEGLIGIBLE = 0.02
"""An uncertainty below this part of the limit may be too large: nobody decides anything by it."""
WITHIN = 0.95
"""Part of the accepted estimates that must lie within the limit."""


@dataclass(frozen=True)
class Outcome:
    """One estimate of one truth; ``error`` and ``sigma`` are NaN where the gate refused it."""

    figure: str
    unit: str
    dose: str
    error: float = nan
    sigma: float = nan
    limit: float = nan
    reason: str = ""
    """Why it was refused; empty where it was not."""


@dataclass(frozen=True)
class Line:
    """A figure over all truths."""

    figure: str
    unit: str
    dose: str
    tried: int
    refused: int
    bias: float
    rms: float
    within: float
    coverage: float
    """NaN where no uncertainty is quoted."""
    quoted: float
    """Mean quoted uncertainty as a part of the limit."""

    def __str__(self) -> str:
        covered = "" if np.isnan(self.coverage) else f"{self.coverage:9.0%}"
        return (
            f"{self.figure:34s} {self.unit:7s} {self.tried:5d} {self.refused:7d} {self.bias:11.2g} {self.rms:10.2g} "
            f"{self.within:8.1%} {covered:>9s}  {self.dose}"
        )


HEADER = f"{'figure':34s} {'unit':7s} tried refused {'bias':>11s} {'rms':>10s} {'within':>8s} {'1 sigma':>9s}  dose"


def lines(outcomes: Iterable[Outcome]) -> list[Line]:
    """One line a figure, in the order of their first appearance."""
    by_figure: dict[str, list[Outcome]] = {}
    for one in outcomes:
        by_figure.setdefault(one.figure, []).append(one)
    return [_line(figure, group) for figure, group in by_figure.items()]


def _line(figure: str, group: list[Outcome]) -> Line:
    accepted = [one for one in group if not one.reason]
    error, sigma, limit = (np.array([getattr(one, name) for one in accepted]) for name in ("error", "sigma", "limit"))
    quoted = len(accepted) > 0 and np.isfinite(sigma).all()
    return Line(
        figure,
        group[0].unit,
        group[0].dose,
        len(group),
        len(group) - len(accepted),
        float(error.mean()) if accepted else nan,
        float(np.sqrt(np.mean(error**2))) if accepted else nan,
        float((np.abs(error) <= limit).mean()) if accepted else nan,
        float((np.abs(error) <= sigma).mean()) if quoted else nan,
        float((sigma / limit).mean()) if quoted else nan,
    )


def short_of(line: Line, most_refused: float) -> list[str]:
    """What a line falls short of, in words; empty where it holds."""
    found = []
    if line.refused > most_refused * line.tried:
        found.append(f"{line.figure}: {line.refused} of {line.tried} refused")
    if not line.within >= WITHIN:
        found.append(f"{line.figure}: only {line.within:.1%} within the limit")
    coverage = round(line.coverage, 2)
    wide = coverage > HIGHEST_COVERAGE and not line.quoted < NEGLIGIBLE
    if wide or coverage < LOWEST_COVERAGE:
        found.append(f"{line.figure}: one sigma covers {line.coverage:.0%}")
    return found
