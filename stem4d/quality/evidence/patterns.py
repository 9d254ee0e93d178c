"""Evidence on the detector: pixels at full scale, counting rates, faulty pixels, and where the disk lies."""

from collections.abc import Iterator
from math import hypot, inf, isfinite

import numpy as np
import numpy.typing as npt

from stem4d.quality.beam_seen import clipped_px
from stem4d.quality.evidence.values import Array, Case, Circle, Curves, Image, Level, Marks, Panel, Series
from stem4d.quality.pixels import found_now
from stem4d.quality.rate import peak_rate_hz
from stem4d.quality.regions import Subject
from stem4d.quality.saturation import clipped_pixels

OF_PLACE = ("saturation.disk", "saturation.bragg", "saturation.mask", "saturation.anywhere")


def saturation(case: Case) -> Iterator[Panel]:
    """Which pixels stood at full scale and when, how fast they counted, and how near counts came to the wrap."""
    maps, subject = case.whole, case.subject
    if not maps.frames:
        return
    clipped = clipped_pixels(maps, subject)
    yield Image(
        metrics=OF_PLACE,
        title="Largest count of each pixel",
        values=_good(maps.max_pattern, subject),
        unit="counts",
        place="detector",
        scale="asinh",
        marks=(Marks(f"at full scale ({subject.full_scale})", clipped),) if clipped.any() else (),
        circles=regions(subject),
        note="" if subject.fit.ok or subject.geometry is None else "The disk is drawn as calibrated.",
    )
    if clipped.any():
        worst = max(case.passes, key=lambda one: int(one.saturated_px[one.recorded].sum()) if one.frames else -1)
        yield Image(
            metrics=(*OF_PLACE, "saturation.per_frame"),
            title=f"Pixels at full scale in each frame{case.which(worst)}",
            values=np.where(worst.recorded, clipped_px(worst, case.not_counted), np.nan),
            unit="px",
            place="scan",
        )
    yield from _rate(case)
    yield from _wrap(case)


def regions(subject: Subject) -> tuple[Circle, ...]:
    """The disk, and the edges of the virtual detectors that are looked at."""
    if subject.geometry is None:
        return ()
    centre, radius = subject.geometry.centre_px, subject.geometry.radius_px
    circles = {("disk", round(radius, 2)): Circle("disk", centre, radius)}
    for wanted in subject.wanted:
        for side, edge in (("inner", wanted.inner_px), ("outer", wanted.outer_px)):
            if wanted.kind == "virtual" and 0 < edge < hypot(*subject.shape):
                name = f"{wanted.name.removeprefix('virtual ').replace('_', ' ')}, {side} edge"
                circles.setdefault((name, round(edge, 2)), Circle(name, centre, edge))
    return tuple(circles.values())


def _rate(case: Case) -> Iterator[Panel]:
    counted = peak_rate_hz(case.whole, case.subject)
    if counted is None or case.subject.detector is None:
        return
    rate = np.where(case.subject.bad_pixels, np.nan, counted)
    limits = case.limits("saturation.rate")
    beyond = [(f"above {limit:.4g} /s, the limit for {names}", np.nan_to_num(rate) > limit) for names, limit in limits]
    yield Image(
        metrics=("saturation.rate",),
        title="Counting rate in the brightest frames",
        values=rate,
        unit="1/s",
        place="detector",
        marks=tuple(Marks(name, mask) for name, mask in beyond if mask.any()),
        circles=regions(case.subject),
        note=f"A tenth of the electrons is not counted at {case.subject.detector.max_count_rate_per_px_hz:.3g} /s.",
    )


def _wrap(case: Case) -> Iterator[Panel]:
    limits = case.limits("saturation.wrap")
    good = case.whole.max_pattern[~case.subject.bad_pixels]
    if not limits or not good.size:
        return
    ordered = np.sort(good.astype(np.float64))[::-1]
    full = Level("full scale", float(case.subject.full_scale or 0))
    yield Curves(
        metrics=("saturation.wrap",),
        title="Largest count of each pixel, in order",
        x_label="pixels, the brightest first",
        y_label="largest count [counts]",
        series=(Series("pixels", np.arange(1.0, len(ordered) + 1), ordered, role="line"),),
        levels=(*(Level("may have begun again at 0 above", limit) for _, limit in limits), full),
    )


def pixels(case: Case) -> Iterator[Panel]:
    """The mean pattern with hot, dead and masked pixels."""
    maps, subject = case.whole, case.subject
    if not maps.frames:
        return
    hot = np.zeros(subject.shape, np.bool_) if case.not_counted is None else case.not_counted
    marked = (
        ("new hot pixel", hot),
        ("new dead pixel", found_now(maps, subject).dead),
        ("masked, as known", subject.bad_pixels & ~hot),
    )
    yield Image(
        metrics=("pixels.mask", "pixels.dead"),
        title="Mean pattern and faulty pixels",
        values=maps.mean_pattern,
        unit="counts per frame",
        place="detector",
        scale="asinh",
        marks=tuple(Marks(name, mask) for name, mask in marked if mask.any()),
    )


def centring(case: Case) -> Iterator[Panel]:
    """The mean pattern with the fitted disk, the middle of the detector, and the angle that is left on all sides."""
    maps, subject = case.whole, case.subject
    if not maps.frames or subject.geometry is None or not subject.fit.ok:
        return
    found = subject.geometry
    usable = found.usable_px(subject.shape)
    circles = [Circle(f"fitted disk, {found.radius_px:.2f} px", found.centre_px, found.radius_px)]
    if usable > 0:
        circles.append(Circle(f"recorded on all sides, {usable:.1f} px", found.centre_px, usable))
    delta = subject.mrad_per_pixel
    for names, need in case.limits("centring.max_angle"):
        if delta is not None and isfinite(need):
            circles.append(Circle(f"needed by {names}, {need:.3g} mrad", found.centre_px, need / delta))
    middle = ((subject.shape[0] - 1) / 2, (subject.shape[1] - 1) / 2)
    yield Image(
        metrics=("centring.offset", "centring.margin", "centring.max_angle", "scale.disk_radius"),
        title="Mean pattern and fitted disk",
        values=_good(maps.mean_pattern, subject),
        unit="counts per frame",
        place="detector",
        scale="asinh",
        circles=tuple(one for one in circles if one.radius_px < inf),
        points=(("middle of the detector", middle), ("middle of the disk", found.centre_px)),
    )


def _good(pattern: npt.NDArray[np.generic], subject: Subject) -> Array:
    """A pattern with NaN in place of bad pixels."""
    return np.where(subject.bad_pixels, np.nan, np.asarray(pattern, np.float64))
