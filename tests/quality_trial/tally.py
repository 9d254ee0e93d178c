"""The blind quality trial's count: verdicts against truths, with the interval that so many cases leave."""

from collections.abc import Iterable
from dataclasses import dataclass
from math import nan

from scipy.stats import binomtest

from stem4d.verdict import Verdict

ALARMS = (Verdict.WARN, Verdict.FAIL)


@dataclass(frozen=True)
class Case:
    """One verdict on one metric of one simulated run, beside what is true."""

    metric: str
    positive: bool
    """Whether the truth lies beyond the limit."""
    doubtful: bool
    """Whether it lies within the limit +- max(10 %, 2.5 times the quoted sigma): then any verdict is right."""
    verdict: Verdict
    note: str = ""
    """Truth and figure, for the list of errors."""

    @property
    def missed(self) -> bool:
        """A fault that raised no alarm; "not measurable" is none."""
        return self.positive and not self.doubtful and self.verdict not in ALARMS

    @property
    def false_alarm(self) -> bool:
        """An alarm without a fault."""
        return not self.positive and not self.doubtful and self.verdict in ALARMS


@dataclass(frozen=True)
class Row:
    """What a metric's cases come to."""

    metric: str
    positives: int
    misses: int
    negatives: int
    """Those with a verdict: healthy cases that were "not measurable" prove nothing and stand apart."""
    false_alarms: int
    not_measured: int
    """Healthy cases that were "not measurable"."""
    doubtful: int

    @property
    def miss_interval(self) -> tuple[float, float]:
        """Clopper-Pearson 95 % interval of the rate of misses."""
        return interval(self.misses, self.positives)

    @property
    def false_alarm_interval(self) -> tuple[float, float]:
        """Clopper-Pearson 95 % interval of the rate of false alarms."""
        return interval(self.false_alarms, self.negatives)


def interval(events: int, cases: int) -> tuple[float, float]:
    """Clopper-Pearson 95 % interval of a rate; (nan, nan) of no cases."""
    if cases == 0:
        return nan, nan
    ends = binomtest(events, cases).proportion_ci(0.95, method="exact")
    return float(ends.low), float(ends.high)


def tally(cases: Iterable[Case]) -> tuple[Row, ...]:
    """One row a metric, in the order in which the metrics first come."""
    by_metric: dict[str, list[Case]] = {}
    for case in cases:
        by_metric.setdefault(case.metric, []).append(case)
    return tuple(_row(metric, found) for metric, found in by_metric.items())


def _row(metric: str, cases: list[Case]) -> Row:
    clear = [case for case in cases if not case.doubtful]
    healthy = [case for case in clear if not case.positive]
    unknown = sum(case.verdict is Verdict.NOT_MEASURABLE for case in healthy)
    return Row(
        metric=metric,
        positives=len(clear) - len(healthy),
        misses=sum(case.missed for case in clear),
        negatives=len(healthy) - unknown,
        false_alarms=sum(case.false_alarm for case in clear),
        not_measured=unknown,
        doubtful=len(cases) - len(clear),
    )


def table(rows: Iterable[Row]) -> str:
    """The rows to be read by people, a line each under a head."""
    lines = [_line("metric", "positives", "misses (95 %)", "negatives", "alarms (95 %)", "unknown", "doubtful")]
    for row in rows:
        misses, alarms = _rate(row.misses, row.miss_interval), _rate(row.false_alarms, row.false_alarm_interval)
        lines.append(_line(row.metric, row.positives, misses, row.negatives, alarms, row.not_measured, row.doubtful))
    return "\n".join(lines)


def _line(*cells: str | int) -> str:
    widths = (-26, 9, -22, 9, -22, 7, 8)
    each = (
        f"{cell!s:<{-width}}" if width < 0 else f"{cell!s:>{width}}" for cell, width in zip(cells, widths, strict=True)
    )
    return " ".join(each)


def _rate(events: int, ends: tuple[float, float]) -> str:
    return f"{events} ({100 * ends[0]:.1f} to {100 * ends[1]:.1f} %)"


def assert_at_most(cases: Iterable[Case], errors: int = 3, least: int = 150) -> None:
    """Fail unless every metric has enough cases of both kinds and at most so many errors in each ``least`` of them.

    The message holds the table and the notes of all errors.
    """
    found = list(cases)
    rows = tally(found)
    assert rows, "no case at all"
    wrong = [f"{case.metric}: {case.verdict.value}: {case.note}" for case in found if case.missed or case.false_alarm]
    told = "\n".join(["", table(rows), *wrong])
    for row in rows:
        assert row.positives >= least, f"{row.metric}: {row.positives} positives of {least}{told}"
        assert row.negatives >= least, f"{row.metric}: {row.negatives} negatives of {least}{told}"
        assert row.misses * least <= errors * row.positives, f"{row.metric}: too many misses{told}"
        assert row.false_alarms * least <= errors * row.negatives, f"{row.metric}: too many false alarms{told}"
