"""Hot pixels that the mask does not know: named as such, and no other figure takes them for beam."""

import numpy as np
import pytest
from quality_world import Truth, disk, frames_of, maps_of, one, plan_for

from stem4d.maps import RunMaps
from stem4d.quality.judge import judge
from stem4d.quality.pixels import check_pixels, new_hot_pixels
from stem4d.verdict import Verdict

TRUTH = Truth(scan=(12, 12), detector=(48, 48), electrons=2000.0, radius=8.0, full_scale=4095)
HOT = ((4, 40), (31, 22))
"""One far off the disk, one near it."""


def with_hot(level: int, pixels: tuple[tuple[int, int], ...] = HOT, bad: np.ndarray | None = None) -> RunMaps:
    frames = frames_of(TRUTH, 3).copy()
    for y, x in pixels:
        frames[:, :, y, x] = level
    return maps_of(frames, TRUTH.full_scale, bad)


# At full scale, and at a tenth of it: a disk's pixels count ten here.
@pytest.mark.parametrize("level", [4095, 400])
def test_new_hot_pixels_are_no_beam_no_offset_and_no_saturation(level: int) -> None:
    plan = plan_for(TRUTH)
    clean, hot = (judge(plan, (maps,), (0.0,)) for maps in (with_hot(0, ()), with_hot(level)))
    found = one(hot, "pixels.mask")
    assert (found.verdict, found.value) == (Verdict.WARN, 2.0)
    assert "pixel mask no longer holds" in found.message
    assert "(4, 40), (31, 22)" in found.message
    assert one(clean, "pixels.mask").verdict is Verdict.PASS
    for metric, analysis in (("dose.electrons", None), ("centring.offset", "com"), ("saturation.disk", "com")):
        assert one(hot, metric, analysis).verdict is one(clean, metric, analysis).verdict, metric
    # The two pixels' own electrons of the disk's edge and of the background: below a per cent.
    assert one(hot, "dose.electrons").value == pytest.approx(one(clean, "dose.electrons").value, rel=0.01)
    # A pixel of the edge less moves the fit by less than a twentieth of a pixel.
    assert one(hot, "centring.offset", "com").value == pytest.approx(
        one(clean, "centring.offset", "com").value, abs=0.05
    )


def test_pixels_of_the_mask_are_no_news() -> None:
    bad = np.zeros(TRUTH.detector, np.bool_)
    for place in HOT:
        bad[place] = True
    results = judge(plan_for(TRUTH), (with_hot(4095, bad=bad),), (0.0,), bad_pixels=bad)
    assert one(results, "pixels.mask").verdict is Verdict.PASS


def test_a_clipped_disk_and_a_single_event_are_no_hot_pixels() -> None:
    clipped = np.minimum(frames_of(TRUTH, 3), 3)
    none = np.zeros(TRUTH.detector, np.bool_)
    assert not new_hot_pixels(maps_of(clipped, 3), none).any()
    cosmic = frames_of(TRUTH, 3).copy()
    cosmic[5, 5, 10, 40] = 4095
    assert not new_hot_pixels(maps_of(cosmic, 4095), none).any()


def test_a_sharp_bragg_disk_is_no_hot_pixel() -> None:
    """A radius of 1.5 px in a parallel beam: the smallest that a detector records as a disk."""
    mean = 300 * (disk(TRUTH.detector, (24.0, 24.0), 1.5) + 0.3 * disk(TRUTH.detector, (10.3, 30.6), 1.5))
    maps = maps_of(np.random.default_rng(3).poisson(mean, (12, 12, *TRUTH.detector)), 4095)
    assert not new_hot_pixels(maps, np.zeros(TRUTH.detector, np.bool_)).any()


def test_nothing_recorded_says_nothing_of_the_mask() -> None:
    maps = maps_of(frames_of(TRUTH, 3), 4095, missing=144)
    none = np.zeros(TRUTH.detector, np.bool_)
    assert check_pixels(maps, new_hot_pixels(maps, none)).verdict is Verdict.NOT_MEASURABLE
