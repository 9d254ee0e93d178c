"""Evidence of what the beam did to the specimen: high-angle counts from pass to pass, and where the passes differ."""

from collections.abc import Iterator

import numpy as np

from stem4d.predict import predict
from stem4d.quality.between import Between, compare, ring_counts
from stem4d.quality.contamination import deflection_change_mrad
from stem4d.quality.damage import CRITICAL_LOST, LARGEST_CHANGE, MOST_LOST, fine_detail
from stem4d.quality.evidence.values import Case, Curves, Image, Level, Marks, Panel, Series
from stem4d.quality.fading import fit_common, power_in_common
from stem4d.quality.local_change import local_changes
from stem4d.quality.pass_images import Overlay

STRETCHED = 10
"""Times that a change of the field's shape is drawn larger: changes that matter are a few per cent."""


def specimen(case: Case) -> Iterator[Panel]:
    """How the passes over one area differ; nothing of a single one."""
    between = compare(case.passes, case.subject)
    if between.last is None:
        return
    yield from _shares(between, case)
    yield from _detail(between, case)
    yield from _changes(between.last)
    yield from _area(between.last)
    yield from _layer(between, case)


def _shares(between: Between, case: Case) -> Iterator[Panel]:
    """Share of the high-angle counts against the dose that the specimen had by then, with the fitted decay."""
    fading = between.fading
    if fading is None:
        return
    counts, totals = ring_counts(between.passes, case.subject, between.inner_px)
    share = counts / totals
    dose, unit = _dose(case)
    at = np.linspace(0.0, between.moments[-1], 60)
    # As the check takes them: of what the first pass had by the fit.
    first = float(fading.unexposed * np.exp(-fading.rate * between.moments[0]))
    yield Curves(
        metrics=("damage.decay", "damage.critical_fluence", "contamination.growth"),
        title=f"Share of counts {between.where}",
        x_label=unit,
        y_label="share of all counts [%]",
        series=(
            Series(
                "passes", between.moments * dose, 100 * share, 100 * share * np.sqrt((1 - share) / counts), of="share"
            ),
            Series(
                "fitted decay", at * dose, 100 * fading.unexposed * np.exp(-fading.rate * at), role="line", of="share"
            ),
        ),
        levels=(
            Level(f"{MOST_LOST:.0%} lost since the first pass", 100 * first * (1 - MOST_LOST)),
            Level(f"{MOST_LOST:.0%} gained", 100 * first * (1 + MOST_LOST)),
            *(
                [Level("1/e left, the critical fluence", 100 * first * (1 - CRITICAL_LOST))]
                if fading.lost > CRITICAL_LOST / 2
                else []
            ),
        ),
        note="Bars are counting errors alone.",
    )


def _dose(case: Case) -> tuple[float, str]:
    """The fluence of a pass and what an axis of it is called; in passes where nobody planned one."""
    if case.subject.plan is None:
        return 1.0, "dose [passes]"
    return predict(case.subject.plan).local_fluence_e_per_a2, "fluence by then [e/Å²]"


def _detail(between: Between, case: Case) -> Iterator[Panel]:
    """Power of fine detail that each two neighbouring passes have in common, with the fitted decay."""
    if not case.told(("damage.detail",)):
        return
    spectra = fine_detail(between)
    fading = fit_common(spectra, between.moments)
    if fading is None:
        return
    dose, unit = _dose(case)
    middles = (between.moments[:-1] + between.moments[1:]) / 2
    at = np.linspace(between.moments[0], between.moments[-1], 60)
    decay = np.exp(-fading.rate * (at - at[0]))
    first = fading.unexposed * np.exp(-fading.rate * at[0])
    power = power_in_common(spectra).sum(axis=1) / first
    yield Curves(
        metrics=("damage.detail",),
        title="Power of fine detail that neighbouring passes have in common",
        x_label=unit,
        y_label="power over that at the first pass",
        series=(
            Series("each two passes", middles * dose, power, of="power"),
            Series("fitted decay", at * dose, decay, role="line", of="power"),
        ),
        levels=(Level(f"{MOST_LOST:.0%} lost", 1 - MOST_LOST),),
        note="What one pass alone shows is noise, and is in none of the points.",
    )


def _changes(last: Overlay) -> Iterator[Panel]:
    if last.reason and last.features:
        return
    heights = local_changes(last)
    if heights is None:
        return
    changed = heights > LARGEST_CHANGE
    yield Image(
        metrics=("damage.change",),
        title="Change of each place from the first pass to the last",
        values=np.where(last.seen, heights, np.nan),
        unit="standard deviations",
        place="scan",
        marks=(Marks(f"above {LARGEST_CHANGE:g}", changed),) if changed.any() else (),
        positions=last.positions,
        note="The largest over all images, the passes laid over each other. Borders are left out.",
    )


def _area(last: Overlay) -> Iterator[Panel]:
    """The field's border as the first pass has it and as the last shows the same specimen."""
    if last.reason:
        return
    half = np.array(last.seen.shape) * last.positions / 2
    corners = np.array([(-1, -1), (-1, 1), (1, 1), (1, -1), (-1, -1)]) * half
    after = corners + STRETCHED * corners @ last.stretch.T
    yield Curves(
        metrics=("damage.area",),
        title=f"Shape of the same specimen, its change drawn {STRETCHED} times larger",
        x_label="scan x from the middle [positions]",
        y_label="scan y from the middle [positions]",
        series=(
            Series("first pass", corners[:, 1], corners[:, 0], role="line"),
            Series("last pass", after[:, 1], after[:, 0], role="line"),
        ),
        equal=True,
        note="Along y, the slow axis, drift stretches it as well: the change along x alone is judged.",
    )


def _layer(between: Between, case: Case) -> Iterator[Panel]:
    """Change of the deflection along the lines, their mean: a layer that ends at the border pulls both ends apart."""
    delta = case.subject.mrad_per_pixel
    if delta is None:
        return
    change = deflection_change_mrad(between.passes[0], between.passes[-1], delta)
    known = np.isfinite(change)
    number = known.sum(axis=1)
    if not number.any():
        return
    mean = np.where(number > 0, np.where(known, change, 0.0).sum(axis=1) / np.maximum(number, 1), np.nan)
    yield Curves(
        metrics=("contamination.frame",),
        title="Change of the deflection from the first pass to the last, mean of all lines",
        x_label="column of the scan",
        y_label="change less its mean [mrad]",
        series=tuple(
            Series(f"detector {name}", np.arange(float(len(line))), line - np.nanmean(line))
            for name, line in zip("yx", mean, strict=True)
        ),
        note="A layer that ends at the border of the field deflects its two halves to opposite sides.",
    )
