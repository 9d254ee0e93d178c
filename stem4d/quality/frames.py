"""Completeness: whether every position of the scan was recorded."""

from collections.abc import Sequence

import numpy as np

from stem4d.maps import RunMaps
from stem4d.quality.grade import result
from stem4d.verdict import QualityResult, Verdict

MOST_MISSING = 0.01
"""Part of the positions that may be missing before the map has holes that matter (habit)."""


def check_frames(passes: Sequence[RunMaps]) -> tuple[QualityResult, ...]:
    """Judge missing frames and frames with invalid pixels, over all passes."""
    recorded = np.concatenate([maps.recorded for maps in passes])
    positions, missing = recorded.size, int((~recorded).sum())
    if missing == positions:
        return (result("frames.missing", None, Verdict.FAIL, "No frame was recorded.", value=1.0, limit=MOST_MISSING),)
    results = [_missing(recorded, positions, missing)]
    invalid = np.concatenate([maps.invalid_px[maps.recorded] for maps in passes])
    touched = int((invalid > 0).sum())
    if touched:
        text = f"{touched} of {invalid.size} frames hold invalid pixels, up to {invalid.max()} of them."
        results.append(result("frames.invalid", None, Verdict.WARN, text, value=touched / invalid.size))
    return tuple(results)


def _missing(recorded: np.ndarray[tuple[int, ...], np.dtype[np.bool_]], positions: int, missing: int) -> QualityResult:
    value = missing / positions
    if missing == 0:
        text = f"All {positions} frames were recorded."
        return result("frames.missing", None, Verdict.PASS, text, value=0.0, limit=MOST_MISSING)
    rows = int((~recorded).all(axis=1).sum())
    last = int(np.flatnonzero(recorded.ravel())[-1])
    text = f"{missing} of {positions} frames are missing"
    text += f", {rows} whole rows among them." if rows else "."
    if recorded.ravel()[: last + 1].all():
        text += f" The recording ends after frame {last + 1}: it was stopped or cut off."
    verdict = Verdict.FAIL if value > MOST_MISSING or rows else Verdict.WARN
    return result("frames.missing", None, verdict, text, value=value, limit=MOST_MISSING)
