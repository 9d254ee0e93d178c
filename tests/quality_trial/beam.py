"""Blind trial of beam and detector: saturation, rate, dose, fluence, dropouts, drift, bad pixels, lost frames."""

from collections.abc import Iterable, Iterator

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from stem4d.detector import full_scale
from stem4d.predict import predict
from stem4d.quality.judge import judge
from stem4d.quality.regions import PatternGeometry
from stem4d.verdict import QualityResult, Verdict, worst
from tests.quality_trial.beam_world import (
    ALPHA_MRAD,
    DWELL_US,
    MIDDLE,
    PIXELS,
    RADIUS_PX,
    Faults,
    Made,
    draw,
    facts_of,
    mask_of,
    plan_of,
    run_of,
    started_s,
)
from tests.quality_trial.tally import Case

GROUP = 1
EDGE_PX = 1.0
"""How far the fitted disk's edge may be off: clipped pixels about it may belong to it or not."""
MOST_KEPT = 0.98
"""Part of the counts that clipping left, from which on the totals tell what flowed."""
NEAR = 0.1
"""About a limit either verdict is right."""
Results = tuple[QualityResult, ...]


def trial(number: int) -> list[Case]:
    """One run with several independent faults, judged as a run is."""
    random = np.random.default_rng((6, GROUP, number))
    faults = draw(random)
    made = run_of(faults, random)
    plan = plan_of(faults, predict(plan_of(faults)).total_fluence_e_per_a2)
    geometry = PatternGeometry(MIDDLE, RADIUS_PX, ALPHA_MRAD / RADIUS_PX)
    maps = [one.maps for one in made]
    results = judge(plan, maps, started_s(faults), geometry, mask_of(faults), facts_of(faults))
    return [
        *_saturation(faults, made, results),
        *_rate(faults, made, results),
        *_dose(faults, made, results),
        *_dropouts(faults, made, results),
        *_drift(faults, results),
        *_pixels(faults, made, results),
        *_losses(faults, made, results),
    ]


def _of(results: Results, metric: str, analysis: str | None = None) -> QualityResult:
    (found,) = [one for one in results if one.metric == metric and one.analysis == analysis]
    return found


def _distance_px() -> npt.NDArray[np.float64]:
    y, x = np.indices((PIXELS, PIXELS))
    return np.asarray(np.hypot(y - MIDDLE[0], x - MIDDLE[1]))


def _near(value: float, limit: float, sigma: float | None) -> bool:
    return abs(value - limit) <= max(NEAR * limit, 2.5 * (sigma or 0.0))


def _left_out(faults: Faults) -> npt.NDArray[np.bool_]:
    mask = mask_of(faults)
    for y, x, _ in faults.hot:
        mask[y, x] = True
    return mask


def _hidden(faults: Faults, made: list[Made], found: QualityResult) -> bool:
    """Whether clipping took so many counts that "not measurable" is the right answer; then saturation fails."""
    deep = np.concatenate([one.deep[one.recorded] for one in made])[:, ~_left_out(faults)]
    kept = np.minimum(deep, full_scale(faults.bits)).sum() / max(deep.sum(), 1)
    return found.verdict is Verdict.NOT_MEASURABLE and kept < MOST_KEPT


def _saturation(faults: Faults, made: list[Made], results: Results) -> Iterator[Case]:
    """Whether any good pixel of the disk stood at full scale in any frame."""
    full = (np.concatenate([one.deep[one.recorded] for one in made]) >= full_scale(faults.bits)).sum(axis=0)
    full[mask_of(faults)] = 0
    hot = _left_out(faults)
    # A hot pixel that is hardly brighter than its neighbours may be taken for one of them.
    surely = int(full[(_distance_px() <= RADIUS_PX - EDGE_PX) & ~hot].sum())
    perhaps = int(full[_distance_px() <= RADIUS_PX + EDGE_PX].sum())
    found = _of(results, "saturation.disk", "com")
    note = f"{surely} to {perhaps} readings of {full_scale(faults.bits)}; {found.message}"
    yield Case("saturation", surely > 0, surely == 0 and perhaps > 0, found.verdict, note)


def _rate(faults: Faults, made: list[Made], results: Results) -> Iterator[Case]:
    """The rate that the brightest tenth of the disk's pixels reach in single frames."""
    place = (_distance_px() <= RADIUS_PX) & ~_left_out(faults)
    for y, x in faults.dead:
        place[y, x] = False
    peak = np.quantile(np.max([one.means[one.recorded].max(axis=0) for one in made], axis=0)[place], 0.9)
    sent_hz = float(peak) / (DWELL_US * 1e-6)
    counted_hz = sent_hz / (1 + sent_hz * 0.1 / faults.rate_limit_hz)
    full = np.max([one.deep[one.recorded].max(axis=0) for one in made], axis=0) >= full_scale(faults.bits)
    found = _of(results, "saturation.rate", "com")
    hidden = float(full[place].mean()) > 0.1 and found.verdict is Verdict.NOT_MEASURABLE
    near = hidden or _near(counted_hz, faults.rate_limit_hz, found.uncertainty)
    note = f"{counted_hz:.4g} of {faults.rate_limit_hz:.4g} /s; {found.message}"
    yield Case("saturation by rate", counted_hz > faults.rate_limit_hz, near, found.verdict, note)


def _dose(faults: Faults, made: list[Made], results: Results) -> Iterator[Case]:
    sent = float(np.concatenate([one.electrons[one.recorded] for one in made]).mean()) / faults.electrons
    found = _of(results, "dose.electrons")
    sigma = (found.uncertainty or 0.0) / faults.electrons
    near = _near(sent, 1.1, sigma) or _near(sent, 0.5, sigma) or _hidden(faults, made, found)
    yield Case("dose", not 0.5 <= sent <= 1.1, near, found.verdict, f"{sent:.3f} of the plan; {found.message}")
    found = _of(results, "dose.fluence")
    over = sent / (1.01 * faults.budget_over_plan)
    sigma = (found.uncertainty or 0.0) / (found.limit or 1.0)
    near = _near(over, 1.0, sigma) or _hidden(faults, made, found)
    yield Case("fluence", over > 1, near, found.verdict, f"{over:.3f} of the budget; {found.message}")


def _dropouts(faults: Faults, made: list[Made], results: Results) -> Iterator[Case]:
    """Whether the current fell by a tenth; how far beyond that, in shot noise of the frames that it lasted."""
    found = _of(results, "beam.dropouts")
    beyond = []
    for drop in faults.drops:
        one = made[drop.of_pass]
        frames = int(one.recorded[drop.first : drop.first + drop.frames].sum())
        if frames:
            counts = float(np.median(one.maps.total[one.maps.recorded]))
            near = max(NEAR * 0.1, 2.5 / np.sqrt(counts * frames))
            beyond.append((1 - drop.part - 0.1) / near)
    most = max(beyond, default=-np.inf)
    note = f"{[(drop.of_pass, drop.first, drop.frames, round(drop.part, 2)) for drop in faults.drops]}; {found.message}"
    near = abs(most) <= 1 or _hidden(faults, made, found)
    yield Case("dropout", most > 0, near, found.verdict, note)


def _drift(faults: Faults, results: Results) -> Iterator[Case]:
    """Change of the current over the recording."""
    found = _of(results, "beam.drift")
    change = abs(faults.drift) * faults.passes
    near = _near(change, 0.05, found.uncertainty) or found.verdict is Verdict.NOT_MEASURABLE
    yield Case("current drift", change > 0.05, near, found.verdict, f"{change:.3f}; {found.message}")


def _pixels(faults: Faults, made: list[Made], results: Results) -> Iterator[Case]:
    """Hot: counts five times its brightest neighbour's; none where it is no third of it.

    Between them it depends on how much the neighbours differ: about the disk's edge they do by themselves.
    """
    mean = np.concatenate([np.minimum(one.deep, full_scale(faults.bits))[one.recorded] for one in made]).mean(axis=0)
    odd = _left_out(faults)
    for y, x in faults.dead:
        odd[y, x] = True
    around = ndimage.maximum_filter(np.where(odd, 0.0, mean), 5)
    over = [mean[y, x] / max(around[y, x], 0.05) for y, x, _ in faults.hot if (y, x) not in faults.masked]
    found = _of(results, "pixels.mask")
    most = max(over, default=0.0)
    yield Case("hot pixels", most > 5, 0.3 < most <= 5, found.verdict, f"{most:.2f} times; {found.message}")
    found = _of(results, "pixels.dead")
    # At the disk's edge some of the neighbours are dark, and nobody can tell.
    lit = [place for place in faults.dead if _distance_px()[place] < RADIUS_PX - 2.5]
    yield Case(
        "dead pixels", bool(lit), bool(faults.dead) and not lit, found.verdict, f"{faults.dead}; {found.message}"
    )


def _losses(faults: Faults, made: list[Made], results: Results) -> Iterator[Case]:
    frames = [one for one in results if one.metric.startswith("frames.")]
    verdict = worst(one.verdict for one in frames)
    told = " ".join(one.message for one in frames if one.verdict is not Verdict.PASS)
    # Frames of fewer than 200 counts may be alike by chance; these are not told from such.
    dim = faults.loss == "repeated" and min(one.maps.total[one.maps.recorded].min() for one in made) < 200
    yield Case("frame loss", bool(faults.loss), dim, verdict, f"{faults.lost} {faults.loss}; {told}")


def trials(numbers: Iterable[int]) -> list[Case]:
    """Many runs."""
    return [case for number in numbers for case in trial(number)]
