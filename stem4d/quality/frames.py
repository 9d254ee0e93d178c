"""Completeness: whether every position of the scan was recorded, once, whole, and with a frame of its own."""

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

from stem4d.maps import RunMaps
from stem4d.quality.grade import result
from stem4d.verdict import QualityResult, Verdict

MOST_MISSING = 0.01
"""Part of the positions that may be missing before the map has holes that matter (habit)."""
COUNTS_TO_TELL = 200
"""Counts from which on two frames are hardly alike by chance: the same total, 1 in 50, and the same centre of mass of a
disk of 2 px radius, 1 in 50 for each axis, together are 1 in 10^5."""
CHANCE_ALIKE, CHANCE_PAIRS = 1e-5, 2
"""Part of the pairs that chance may still make alike, and so many more."""


def check_frames(passes: Sequence[RunMaps]) -> tuple[QualityResult, ...]:
    """Judge missing, duplicate, corrupt, repeated frames and frames with invalid pixels, over all passes.

    Duplicate and corrupt ones are known from the ledger that the acquisition keeps. A frame that is the same as the
    one before it, to the last digit of total, maximum and centre of mass, was handed out twice: by a detector that
    stood still, or by what read it.
    """
    # A frame that came and cannot be used is not missing.
    recorded = np.concatenate([maps.recorded | _unusable(maps) for maps in passes])
    positions, missing = recorded.size, int((~recorded).sum())
    results = [*_by_ledger(passes, positions)]
    if missing == positions:
        gone = result(
            "frames.missing",
            None,
            Verdict.FAIL,
            "No frame was recorded.",
            value=1.0,
            limit=MOST_MISSING,
            uncertainty=0.0,
        )
        return (gone, *results)
    results = [_missing(recorded, positions, missing), *results, _repeated(passes)]
    return (*results, *_invalid(passes))


def _unusable(maps: RunMaps) -> npt.NDArray[np.bool_]:
    return np.zeros_like(maps.recorded) if maps.unusable is None else maps.unusable


def _invalid(passes: Sequence[RunMaps]) -> Iterator[QualityResult]:
    """Frames with pixels above full scale, of counts; with values that are no numbers, of what is none."""
    came = [maps.recorded | _unusable(maps) for maps in passes]
    invalid = np.concatenate([maps.invalid_px[there] for maps, there in zip(passes, came, strict=True)])
    touched, unusable = int((invalid > 0).sum()), int(sum(_unusable(maps).sum() for maps in passes))
    if not touched and not unusable:
        return
    value = touched / invalid.size
    if all(maps.unusable is None for maps in passes):
        text = f"{touched} of {invalid.size} frames hold pixels above full scale, up to {invalid.max()} of them."
        yield result("frames.invalid", None, Verdict.WARN, text, value=value)
        return
    verdict, value = Verdict.WARN, max(touched, unusable) / invalid.size
    text = f"{max(touched, unusable)} of {invalid.size} frames hold values that are no numbers (NaN or infinite)"
    text += f", up to {invalid.max()} pixels in one." if touched else "."
    if unusable:
        verdict = Verdict.FAIL if unusable > MOST_MISSING * invalid.size else Verdict.WARN
        text += f" {unusable} frame(s) lack so much of the pattern that they are left out of everything else."
    if unusable < touched:
        text += f" Of {touched - unusable} frame(s) only those pixels are left out."
    yield result("frames.invalid", None, verdict, text, value=value, limit=MOST_MISSING, uncertainty=0.0)


def _missing(recorded: npt.NDArray[np.bool_], positions: int, missing: int) -> QualityResult:
    value = missing / positions
    text, verdict = (
        f"All {positions} frames were recorded." if positions > 1 else "One frame was recorded.",
        Verdict.PASS,
    )
    if missing:
        rows = int((~recorded).all(axis=1).sum())
        last = int(np.flatnonzero(recorded.ravel())[-1])
        text = f"{missing} of {positions} frames are missing"
        text += f", {rows} whole rows among them." if rows else "."
        if recorded.ravel()[: last + 1].all():
            text += f" The recording ends after frame {last + 1}: it was stopped or cut off."
        verdict = Verdict.FAIL if value > MOST_MISSING or rows else Verdict.WARN
    return result("frames.missing", None, verdict, text, value=value, limit=MOST_MISSING, uncertainty=0.0)


def _by_ledger(passes: Sequence[RunMaps], positions: int) -> Iterator[QualityResult]:
    kept = [(maps.came_twice, maps.corrupt) for maps in passes]
    twice = [mask for mask, _ in kept if mask is not None]
    corrupt = [mask for _, mask in kept if mask is not None]
    if len(twice) < len(passes) or len(corrupt) < len(passes):
        text = "Whether frames came twice or damaged is not known: these data have no ledger."
        yield result("frames.ledger", None, Verdict.NOT_MEASURABLE, text)
        return
    again, damaged = (int(sum(mask.sum() for mask in masks)) for masks in (twice, corrupt))
    text, verdict = "No position got more than one frame.", Verdict.PASS
    if again:
        verdict = Verdict.WARN
        text = (
            f"{again} of {positions} positions got more than one frame; the first is kept. If numbers of frames "
            "were wrong, frames lie at wrong positions: compare neighbouring rows."
        )
    share = again / positions
    yield result("frames.duplicate", None, verdict, text, value=share, limit=0.0, uncertainty=0.0)
    text, verdict = "No frame came damaged.", Verdict.PASS
    if damaged:
        verdict = Verdict.FAIL if damaged > MOST_MISSING * positions else Verdict.WARN
        text = (
            f"{damaged} of {positions} frames came damaged and could not be unpacked; they count as missing, and their "
            "bytes are kept beside the data. Look at the network and the detector's log."
        )
    yield result("frames.corrupt", None, verdict, text, value=damaged / positions, limit=MOST_MISSING, uncertainty=0.0)


def _repeated(passes: Sequence[RunMaps]) -> QualityResult:
    looked = alike = 0
    for maps in passes:
        told, same = repeats(maps)
        looked, alike = looked + int(told.sum()), alike + int(same.sum())
    if looked == 0:
        text = (
            f"Whether frames repeat is not known: it takes neighbours of {COUNTS_TO_TELL} counts that are not clipped, "
            "as dimmer or full ones may be alike by chance."
        )
        return result("frames.repeated", None, Verdict.NOT_MEASURABLE, text)
    value = alike / looked
    text, verdict = f"Each of {looked} frames differs from the one before it.", Verdict.PASS
    if alike:
        text = f"{alike} of {looked} frames are the same as the one before them, to the last digit."
    if alike > CHANCE_PAIRS + CHANCE_ALIKE * looked:
        verdict = Verdict.FAIL if value > MOST_MISSING else Verdict.WARN
        text += " The detector or its reader handed out old frames: these positions hold no data of their own."
    return result("frames.repeated", None, verdict, text, value=value, limit=MOST_MISSING, uncertainty=0.0)


def repeats(maps: RunMaps) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
    """Frames that can be told from the one before them, and those of them that are the same, (scan_y, scan_x)."""
    seen = maps.recorded.ravel()
    # Pixels at full scale are the same in every frame, whatever comes.
    full = maps.saturated_px.ravel().astype(np.float64) * (maps.full_scale or 0)
    clear = seen & (maps.total.ravel() - full >= COUNTS_TO_TELL)
    figures: list[npt.NDArray[np.generic]] = [maps.total, maps.maximum, maps.com_y_px, maps.com_x_px]
    figures += maps.virtual.values()
    clear &= np.isfinite(maps.com_y_px.ravel()) & np.isfinite(maps.com_x_px.ravel())
    both = clear[1:] & clear[:-1]
    same = both.copy()
    for each in figures:
        same &= each.ravel()[1:] == each.ravel()[:-1]
    told, alike = (np.concatenate([[False], each]).reshape(maps.scan_shape) for each in (both, same))
    return told, alike
