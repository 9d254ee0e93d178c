"""Synthetic recordings with known truth for the tests of calibration, quality and analysis."""

import json
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.special import erfc

from stem4d.maps import RunMaps
from stem4d.plan import Plan
from stem4d.verdict import QualityResult

Array = npt.NDArray[np.float64]
COM: dict[str, Any] = {"kind": "com", "target_d_a": 2.0}


def disk(shape: tuple[int, int], centre: tuple[float, float], radius: float, blur: float = 0.6) -> Array:
    """A disk of height one with an edge blurred by ``blur`` px."""
    y, x = np.ogrid[: shape[0], : shape[1]]
    return 0.5 * erfc((np.hypot(y - centre[0], x - centre[1]) - radius) / (np.sqrt(2) * blur))


@dataclass(frozen=True)
class Truth:
    """A recording to be made."""

    scan: tuple[int, int] = (12, 12)
    detector: tuple[int, int] = (48, 48)
    offset: tuple[float, float] = (0.0, 0.0)
    """Of the disk from the middle of the detector, (y, x) [px]."""
    radius: float = 10.0
    electrons: float = 3000.0
    background: float = 0.02
    """Counts per pixel and frame beside the disk."""
    descan: tuple[tuple[float, float], tuple[float, float]] = ((0.0, 0.0), (0.0, 0.0))
    """Movement of the disk in px per position: rows detector (y, x), columns scan (y, x)."""
    full_scale: int | None = 4095
    hot: tuple[tuple[int, int], ...] = ()
    """Pixels that always stand at full scale."""
    missing: int = 0
    """Frames missing at the end."""

    @property
    def centre(self) -> tuple[float, float]:
        """Centre of the disk in the middle of the field."""
        return (self.detector[0] - 1) / 2 + self.offset[0], (self.detector[1] - 1) / 2 + self.offset[1]


def frames_of(truth: Truth, seed: int, scene: Array | None = None) -> npt.NDArray[np.int64]:
    """Poisson frames (scan_y, scan_x, det_y, det_x), clipped at full scale; ``scene`` scales each frame's counts."""
    rng = np.random.default_rng(seed)
    y, x = (np.arange(n) - (n - 1) / 2 for n in truth.scan)
    patterns = np.empty((*truth.scan, *truth.detector))
    still = np.allclose(truth.descan, 0)
    for i, v in enumerate(y):
        for j, h in enumerate(x):
            if still and (i or j):
                patterns[i, j] = patterns[0, 0]
                continue
            moved = np.array(truth.descan) @ (v, h)
            shape = disk(truth.detector, (truth.centre[0] + moved[0], truth.centre[1] + moved[1]), truth.radius)
            patterns[i, j] = shape / (np.pi * truth.radius**2) * truth.electrons + truth.background
    if scene is not None:
        patterns = patterns * scene[:, :, None, None]
    counts = rng.poisson(patterns)
    top = truth.full_scale if truth.full_scale is not None else 65535
    counts = np.minimum(counts, top)
    for pixel in truth.hot:
        counts[:, :, pixel[0], pixel[1]] = top
    return counts


def maps_of(
    frames: npt.NDArray[np.int64], full_scale: int | None, bad: npt.NDArray[np.bool_] | None = None, missing: int = 0
) -> RunMaps:
    """Maps of frames by plain numpy, bad pixels left out as the accumulator does."""
    scan, detector = frames.shape[:2], frames.shape[2:]
    recorded = (np.arange(scan[0] * scan[1]) < scan[0] * scan[1] - missing).reshape(scan)
    good = np.ones(detector, bool) if bad is None else ~bad
    kept = frames * good * recorded[:, :, None, None]
    total = kept.sum((2, 3))
    y, x = np.indices(detector)
    with np.errstate(invalid="ignore", divide="ignore"):
        com_y, com_x = (kept * y).sum((2, 3)) / total, (kept * x).sum((2, 3)) / total
    reached = (kept == full_scale) & good & recorded[:, :, None, None] if full_scale is not None else kept < 0
    return RunMaps(
        recorded=recorded,
        total=total.astype(np.uint64),
        com_y_px=com_y.astype(np.float32),
        com_x_px=com_x.astype(np.float32),
        maximum=kept.max((2, 3)).astype(np.uint32),
        saturated_px=reached.sum((2, 3)).astype(np.uint32),
        invalid_px=np.zeros(scan, np.uint32),
        sum_pattern=kept.sum((0, 1)).astype(np.uint64),
        max_pattern=kept.max((0, 1)).astype(np.uint32),
        full_scale=full_scale,
    )


def recording(
    seed: int = 0, scene: Array | None = None, bad: npt.NDArray[np.bool_] | None = None, **truth: Any
) -> RunMaps:
    """Maps of a recording made after a truth."""
    made = Truth(**truth)
    return maps_of(frames_of(made, seed, scene), made.full_scale, bad, made.missing)


def plan_for(truth: Truth, analyses: tuple[dict[str, Any], ...] = (COM,), **over: Any) -> Plan:
    """A plan that asks for such a recording: 1 mrad per pixel, 300 kV, convergence angle of the disk's radius."""
    dwell = 100.0
    current = truth.electrons / (6.241509 * dwell)
    document: dict[str, Any] = {
        "format_version": 1,
        "name": "test",
        "sample": {
            "name": "specimen",
            "area": "area-1",
            "sensitivity": "robust",
            "thickness_nm": 10.0,
            "fluence_budget_e_per_a2": 1e6,
        },
        "analyses": analyses,
        "optics": {
            "beam_energy_kev": 300.0,
            "convergence_semi_angle_mrad": truth.radius,
            "probe_current_pa": current,
            "camera_length_mm": 100.0,
        },
        "scan": {"shape": truth.scan, "step_nm": 0.1},
        "exposure": {"dwell_time_us": dwell},
        "detector": {
            "name": "camera",
            "shape": truth.detector,
            "pixel_pitch_um": 100.0,
            "bit_depth": (truth.full_scale or 4095).bit_length(),
            "mrad_per_pixel": 1.0,
        },
    }
    for path, value in over.items():
        part = document
        *parents, last = path.split("__")
        for name in parents:
            part = part.setdefault(name, {})
        part[last] = value
    return Plan.model_validate_json(json.dumps(document))


def one(results: tuple[QualityResult, ...], metric: str, analysis: str | None = None) -> QualityResult:
    """The only result of a metric, for an analysis if one is named."""
    found = [each for each in results if each.metric == metric and (analysis is None or each.analysis == analysis)]
    assert len(found) == 1, [each.model_dump() for each in found] or [(r.metric, r.analysis) for r in results]
    return found[0]


def without_frames(maps: RunMaps) -> RunMaps:
    """The same recording with nothing recorded."""
    nothing = {
        name: np.zeros_like(getattr(maps, name))
        for name in ("recorded", "total", "maximum", "saturated_px", "invalid_px", "sum_pattern", "max_pattern")
    }
    gone = np.full_like(maps.com_y_px, np.nan)
    return replace(maps, **nothing, com_y_px=gone, com_x_px=gone)
