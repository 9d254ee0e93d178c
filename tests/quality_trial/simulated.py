"""A simulated run as the product sees it: a plan, the frames of its passes, and the maps that they leave."""

import json
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from devices.map_buffers import MapBuffers
from devices.simulator.scene import Scene, dose_after_all, make_ready, render
from stem4d.accumulate import Accumulator, AccumulatorSpec
from stem4d.calibrate.pixels import Mask
from stem4d.maps import RunMaps
from stem4d.plan import Plan
from stem4d.simulate.fluence import untouched
from tasks.calibrated import accumulator_spec, uncalibrated
from tests.blind.world import PITCH_UM, TOGETHER, Frames, Setup

Analyses = tuple[dict[str, Any], ...]


def plan_of(setup: Setup, analyses: Analyses, passes: int = 1, **sample: Any) -> Plan:
    """The plan whose commands a set-up is."""
    document = {
        "format_version": 1,
        "name": "trial",
        "sample": {
            "name": "specimen",
            "area": "there",
            "sensitivity": "robust",
            "thickness_nm": 5.0,
            "fluence_budget_e_per_a2": 1e9,
            **sample,
        },
        "analyses": analyses,
        "optics": {
            "beam_energy_kev": setup.energy_kev,
            "convergence_semi_angle_mrad": setup.alpha_mrad,
            "defocus_nm": setup.defocus_nm,
            "probe_current_pa": setup.current_pa,
            "camera_length_mm": PITCH_UM / setup.mrad_per_pixel,
        },
        "scan": {"shape": setup.scan, "step_nm": setup.step_nm},
        "exposure": {"dwell_time_us": setup.dwell_us, "passes": passes},
        "detector": {
            "name": "blind",
            "shape": (setup.pixels, setup.pixels),
            "pixel_pitch_um": PITCH_UM,
            "bit_depth": setup.bit_depth,
        },
    }
    return Plan.model_validate_json(json.dumps(document))


def spec_for(plan: Plan, bad: Mask) -> AccumulatorSpec:
    """What the product accumulates for a plan, with the nominal geometry."""
    known = tuple((int(y), int(x)) for y, x in np.argwhere(bad))
    return accumulator_spec(plan, uncalibrated(plan).model_copy(update={"bad_pixels": known}), threads=1)


def maps_of(frames: Frames, plan: Plan, bad: Mask) -> RunMaps:
    """The maps of one pass's frames (n, det_y, det_x)."""
    spec = spec_for(plan, bad)
    accumulator, buffers = Accumulator(spec), MapBuffers(plan.scan.shape, spec)
    for first in range(0, len(frames), TOGETHER):
        part = frames[first : first + TOGETHER]
        buffers.put(slice(first, first + len(part)), accumulator.add(part))
    return buffers.finished(accumulator)


def batches(one: Scene, size: int, start_s: float = 0.0) -> Iterator[Frames]:
    """The frames of an exposure in batches, as they come."""
    bench = make_ready(one, start_s)
    for first in range(0, one.frames, size):
        part = np.arange(first, min(first + size, one.frames))
        yield render(one, bench, part, start_s, np.ones(len(part), np.bool_))


def passes_of(scenes: Sequence[Scene], starts_s: Sequence[float]) -> Iterator[Frames]:
    """The frames of each pass; the specimen remembers the dose of those before."""
    fluence = untouched()
    for one, start_s in zip(scenes, starts_s, strict=True):
        bench = make_ready(one, start_s)
        bench.expose_first(fluence)
        everything = np.arange(one.frames)
        lit = np.ones(TOGETHER, np.bool_)
        parts: list[npt.NDArray[np.int64]] = np.split(everything, range(TOGETHER, one.frames, TOGETHER))
        yield np.concatenate([render(one, bench, part, start_s, lit[: len(part)]) for part in parts])
        fluence = dose_after_all(one, fluence, everything, start_s)
