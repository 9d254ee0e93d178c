"""Wrapped counters: an eight-bit counter that passes 255 may begin again at 0, and no pixel then looks full."""

from collections.abc import Iterator

import numpy as np

from stem4d.detector import full_scale
from stem4d.maps import RunMaps
from stem4d.quality.grade import result
from stem4d.quality.regions import Subject
from stem4d.verdict import QualityResult, Verdict

METRIC = "saturation.wrap"
SUSPECT_BITS = 8
"""Counters of this depth are known to wrap without a sign in some readouts."""
SAFE_PART = 0.4
"""Largest count over full scale up to which an eight-bit counter has not wrapped. Poisson counts about 306 are the ones
that hide best: 1 in 250 is below 256 or above 356, and leaves a count above 100."""
NEAR_PART = 0.98
"""From this part of full scale on, the counts' own spread took some of them past it."""
FRAMES_TO_TELL = 100
"""Frames from which on 20 bright pixels hold at least three such counts (8 expected)."""
FEWEST = 3
"""The third largest pixel is judged: one or two may be hot ones that no mask knows."""


def check_wrap(maps: RunMaps, subject: Subject) -> Iterator[QualityResult]:
    """Judge whether counts may have begun again at 0; nothing is said of counters that stop at full scale.

    The value is the third largest of the pixels' largest counts. Counts that wrapped are wrong by 256 and cannot be
    told from true ones: the verdict is about how near to it the counts came.
    """
    top, facts = subject.full_scale, subject.detector
    bits = SUSPECT_BITS if facts is None else facts.wraps_at_bits
    if maps.frames == 0 or bits is None or (top is not None and top != full_scale(bits)):
        return
    if top is None and _fills_eight_bits(maps, subject):
        top = full_scale(SUSPECT_BITS)
    if top is None:
        text = "Whether the counter wrapped is not known: nobody knows its full scale; state its bit depth."
        yield result(METRIC, None, Verdict.NOT_MEASURABLE, text, unit="counts")
        return
    good = maps.max_pattern[~subject.bad_pixels]
    if good.size < FEWEST:
        text = "Whether the counter wrapped is not known: the mask leaves no pixel."
        yield result(METRIC, None, Verdict.NOT_MEASURABLE, text, unit="counts")
        return
    largest = int(np.partition(good, -FEWEST)[-FEWEST])
    limit = SAFE_PART * top
    text = f"The largest counts reach {largest} of {top}, where the counter may begin again at 0."
    verdict = Verdict.PASS
    if largest <= limit:
        if maps.frames < FRAMES_TO_TELL or bits != SUSPECT_BITS:
            verdict = Verdict.NOT_MEASURABLE
            text += " So few frames, or so deep a counter, do not tell whether it did."
        else:
            text += " Had it done so, larger ones would have been left somewhere."
    elif largest < NEAR_PART * top:
        verdict = Verdict.WARN
        text += " Whether it did cannot be seen in the data: use a deeper counter or a shorter dwell."
    else:
        # An unknown detector may as well stop at full scale, which the saturation by place sees.
        verdict = Verdict.WARN if facts is None else Verdict.FAIL
        text += " Some have passed it and" if facts is not None else " Where it does so, some have passed it and"
        text += " are wrong by a whole counter: use a deeper counter or a shorter dwell."
    yield result(METRIC, None, verdict, text, value=float(largest), limit=limit, unit="counts", uncertainty=0.0)


def _fills_eight_bits(maps: RunMaps, subject: Subject) -> bool:
    """Whether several pixels reach the largest value of eight bits and none goes beyond: so does such a counter."""
    good, top = maps.max_pattern[~subject.bad_pixels], full_scale(SUSPECT_BITS)
    return int((good == top).sum()) >= FEWEST and not bool((good > top).any())
