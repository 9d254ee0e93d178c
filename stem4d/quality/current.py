"""The current over a run: its slow drift and its flicker from row to row, as far as the specimen lets them be seen."""

from collections.abc import Sequence
from math import hypot, isfinite, nan, sqrt

import numpy as np

from stem4d.quality.beam_seen import Seen
from stem4d.quality.grade import grade, result
from stem4d.quality.row_factors import Factors, between_passes, within_pass
from stem4d.verdict import QualityResult, Verdict

MOST_DRIFT = 0.05
"""Change of the current over the recording that totals still normalise without a second thought (habit)."""
MOST_FLICKER = 0.02
"""Rms change of the current from row to row: cold field emission has 1 to 5 % (lit.)."""

WORDS = {
    "beam.dropouts": "Dropouts of the beam are",
    "beam.drift": "Drift of the beam is",
    "beam.flicker": "Flicker of the beam is",
}


def judge_drift(
    seen: Sequence[Seen],
    started_s: Sequence[float],
    pass_time_s: float | None,
    electrons_per_count: tuple[float, float],
) -> QualityResult:
    """Judge the change of the current over the recording; see `stem4d.quality.beam.check_beam`."""
    steepness, doubt = electrons_per_count
    several = len(seen) > 1
    counted, spread = (
        _between(seen, started_s, pass_time_s) if several else within_pass(seen[0].total, seen[0].steady).line
    )
    change, error = counted * steepness, hypot(spread * steepness, counted * doubt)
    if not isfinite(change):
        return unknown("beam.drift", "it takes four rows with counts")
    if several:
        text = (
            f"The current changes by {change:+.1%} ± {error:.1%} over the recording, by the counts of the same places"
        )
        verdict, limit = grade(abs(change), error, soft=MOST_DRIFT)
        text += ", by the current or by damage." if verdict is not Verdict.PASS else "."
    else:
        text = f"The counts change by {change:+.1%} ± {error:.1%} from the first row to the last."
        verdict, limit = grade(abs(change), error, soft=MOST_DRIFT)
        if verdict is Verdict.WARN and not _common(seen[0], counted, spread):
            verdict = Verdict.NOT_MEASURABLE
            text += " Whether the beam or the specimen changed cannot be told from one pass: take two."
        elif verdict is Verdict.WARN:
            text += " Bright and dark field change together, as with the current."
    if verdict is Verdict.WARN:
        text += " Divide by the totals; let the gun settle."
    return result("beam.drift", None, verdict, text, value=abs(change), limit=limit, uncertainty=error)


def _between(seen: Sequence[Seen], started_s: Sequence[float], pass_time_s: float | None) -> tuple[float, float]:
    """Change of the current from the first start to the last end, by places that all passes saw, and its error."""
    logs, errors = [], []
    first = seen[0]
    for one in seen[1:]:
        both = first.steady & one.steady
        before, after = float(first.total[both].sum()), float(one.total[both].sum())
        if not before > 0 or not after > 0:
            return nan, nan
        logs.append(np.log(after / before))
        errors.append(sqrt(1 / before + 1 / after))
    times = np.array(started_s[1:]) - started_s[0]
    slope = float((times * logs).sum() / (times**2).sum())
    misfit = np.array(logs) - slope * times
    scatter = float(np.sqrt((misfit**2).sum() / max(len(logs) - 1, 1)))
    error = max(max(errors), scatter) / float(np.sqrt((times**2).sum()))
    # Pauses between the passes belong to the recording.
    whole_s = float(times[-1]) + (pass_time_s if pass_time_s is not None else float(np.diff(started_s).min()))
    return float(np.expm1(slope * whole_s)), error * whole_s


def _common(one: Seen, change: float, error: float) -> bool:
    """Whether bright and dark field change by the same factor, and are known well enough to say so."""
    if not one.rings:
        return False
    bright, dark = (
        within_pass(one.maps.virtual[name].astype(np.float64), one.steady) for name in ("disk", "beyond_disk")
    )
    known = sqrt(bright.change_uncertainty**2 + dark.change_uncertainty**2 + error**2)
    if not isfinite(known) or known > abs(change) / 2:
        return False
    return abs(bright.change - dark.change) < max(2 * known, abs(change) / 4)


def judge_flicker(seen: Sequence[Seen]) -> QualityResult:
    """Judge the rms change of the current from one row to the next."""
    several = len(seen) > 1
    factors: Factors = (
        between_passes(seen[0].total, seen[1].total, seen[0].steady & seen[1].steady)
        if several
        else within_pass(seen[0].total, seen[0].steady)
    )
    if not isfinite(factors.flicker):
        return unknown("beam.flicker", "it takes four rows with counts")
    verdict, limit = grade(factors.flicker, factors.flicker_uncertainty, soft=MOST_FLICKER)
    text = f"The counts of a row change by {factors.flicker:.2%} rms to the next beyond their noise."
    if verdict is Verdict.WARN and not several:
        verdict = Verdict.NOT_MEASURABLE
        text += " Whether the beam flickers or the specimen changes from row to row cannot be told from one pass."
    elif verdict is Verdict.WARN:
        text += " The beam flickers: divide by the totals, and look at the gun."
    return result(
        "beam.flicker",
        None,
        verdict,
        text,
        value=factors.flicker,
        limit=limit,
        uncertainty=factors.flicker_uncertainty,
    )


def unknown(metric: str, reason: str) -> QualityResult:
    """What is said of a metric of the beam that was not measured."""
    return result(metric, None, Verdict.NOT_MEASURABLE, f"{WORDS[metric]} not known: {reason}.")
