"""Runs whose specimen drifts, whose pattern moves over the scan and lies off the middle, by amounts drawn at random."""

from dataclasses import dataclass, replace
from math import hypot
from typing import Any

import numpy as np

from devices.map_buffers import MapBuffers
from stem4d.accumulate import Accumulator
from stem4d.maps import RunMaps
from stem4d.plan import Plan
from stem4d.quality.judge import judge
from stem4d.quality.movement import movement_of
from stem4d.quality.regions import PatternGeometry
from stem4d.rules.limits import LIMITS
from stem4d.verdict import QualityResult
from storage.documents import validate
from tasks.calibrated import Calibrated, accumulator_spec, uncalibrated
from tests.blind.world import Setup, bad_pixels, frames_of, mask_of, scene, seed_of
from tests.quality_trial.tally import Case

GROUP = 2
SETUP = Setup(200.0, 20.0, 2.0, 32, (40, 40), 0.06, 4e3, bit_depth=12, dwell_us=1000.0)
ATOMS = {"specimen": "random", "spacing_a": 4.0, "modulation": 0.3}
FLYBACK_US = 2000.0
STEP_NM, DELTA, RADIUS_PX = SETUP.step_nm, SETUP.mrad_per_pixel, SETUP.alpha_mrad / SETUP.mrad_per_pixel
FIELD_NM = (SETUP.scan[0] - 1) * STEP_NM
HALF_PX = SETUP.pixels / 2
LEAST_DOUBT = 0.1
"""Part of the limit within which any verdict is right, besides 2.5 quoted errors."""


@dataclass(frozen=True)
class Truth:
    """What is hidden in one run."""

    drift_nm_per_min: tuple[float, float]
    drift_limit_nm_per_min: float
    slope_px: np.ndarray
    """(2, 2): movement of the pattern over the field, rows detector (y, x), columns scan (y, x)."""
    curve_px: np.ndarray
    """(2, 3): the same over the field for y², yx, x², by the half field each way."""
    descan_limit_px: float
    offset_px: tuple[float, float]
    starts_s: tuple[float, ...]

    @property
    def speed_nm_per_min(self) -> float:
        """Size of the drift."""
        return hypot(*self.drift_nm_per_min)

    def movement_px(self) -> np.ndarray:
        """Where the pattern lies at every position, (scan_y, scan_x, 2) from the middle of the field."""
        at = np.linspace(-1, 1, SETUP.scan[0])
        y, x = np.meshgrid(at, at, indexing="ij")
        lines = np.stack([y, x], axis=-1) / 2 @ self.slope_px.T
        return np.asarray(lines + np.stack([y * y, y * x, x * x], axis=-1) @ self.curve_px.T)

    @property
    def descan_px(self) -> float:
        """Largest distance between two places of the pattern."""
        places = self.movement_px().reshape(-1, 2)
        angles = np.linspace(0, np.pi, 181)
        return float(np.ptp(places @ np.stack([np.sin(angles), np.cos(angles)]), axis=0).max())

    def room_px(self) -> float:
        """Least room between the disk and the detector's edge, over the field."""
        places = np.abs(self.movement_px() + self.offset_px)
        return float(HALF_PX - RADIUS_PX - places.max())


def drawn(random: np.random.Generator) -> Truth:
    """A truth: each fault on its own within its limit or beyond it, as often."""

    def part(low: float, high: float) -> float:
        return float(np.exp(random.uniform(*np.log([low, 1.0] if random.random() < 0.5 else [1.0, high]))))

    def direction() -> np.ndarray:
        angle = random.uniform(0, 2 * np.pi)
        return np.array([np.sin(angle), np.cos(angle)])

    between_s = float(random.uniform(5, 30))
    passes = 3 if random.random() < 0.25 else 2
    # A limit of a few steps from the first pass to the last: what two passes of a run can be held to.
    over_s = between_s * (passes - 1)
    limit = float(random.uniform(2.0, 4.0)) * STEP_NM / over_s * 60
    drift = direction() * part(0.05, 2.5) * limit
    truth = Truth(
        drift_nm_per_min=(float(drift[0]), float(drift[1])),
        drift_limit_nm_per_min=limit,
        slope_px=random.normal(size=(2, 2)),
        curve_px=random.normal(size=(2, 3)) * (0.3 if random.random() < 0.5 else 0.0),
        descan_limit_px=float(random.uniform(0.5, 1.5)),
        offset_px=_offset(random, part),
        starts_s=tuple(between_s * k for k in range(passes)),
    )
    scale = part(0.1, 3.0) * truth.descan_limit_px / truth.descan_px
    return replace(truth, slope_px=truth.slope_px * scale, curve_px=truth.curve_px * scale)


def _offset(random: np.random.Generator, part: Any) -> tuple[float, float]:
    """Within the limit of the offset, beyond it, or beyond that of the margin, which lies further out."""
    kind = random.random()
    if kind < 0.45:
        largest = float(random.uniform(0.05, 0.9)) * OFFSET_LIMIT_PX
    elif kind < 0.85:
        largest = float(random.uniform(1.1, 1.8)) * ROOM_PX
    else:
        largest = part(0.5, 4.0) * OFFSET_LIMIT_PX
    other = float(random.uniform(-1, 1)) * largest
    pair = (largest * float(random.choice([-1, 1])), other)
    return pair if random.random() < 0.5 else (pair[1], pair[0])


OFFSET_LIMIT_PX = (LIMITS["pattern_centred"].soft or 0.0) * HALF_PX
ROOM_PX = HALF_PX - RADIUS_PX - LIMITS["disk_on_detector"].wanted
"""Offset from which on less than the wanted margin is left."""


def plan_of(truth: Truth) -> Plan:
    """The plan that asks for the run, with its limits."""
    document: dict[str, Any] = {
        "format_version": 1,
        "name": "trial",
        "sample": {
            "name": "atoms",
            "area": "there",
            "sensitivity": "robust",
            "thickness_nm": 5.0,
            "fluence_budget_e_per_a2": 1e7,
        },
        "analyses": [{"kind": "com", "target_d_a": 2.0}],
        "optics": {
            "beam_energy_kev": SETUP.energy_kev,
            "convergence_semi_angle_mrad": SETUP.alpha_mrad,
            "probe_current_pa": SETUP.current_pa,
            "camera_length_mm": 100.0 / DELTA,
        },
        "scan": {"shape": SETUP.scan, "step_nm": STEP_NM, "flyback_us": FLYBACK_US},
        "exposure": {"dwell_time_us": SETUP.dwell_us, "passes": len(truth.starts_s)},
        "detector": {
            "name": "blind",
            "shape": (SETUP.pixels, SETUP.pixels),
            "pixel_pitch_um": 100.0,
            "bit_depth": SETUP.bit_depth,
        },
        "quality": {
            "max_drift_nm_per_min": truth.drift_limit_nm_per_min,
            "max_descan_px": truth.descan_limit_px,
        },
    }
    return validate(document, Plan, "plan")


def recorded(truth: Truth, plan: Plan, random: np.random.Generator) -> tuple[list[RunMaps], Calibrated, np.ndarray]:
    """The passes as an acquisition leaves them, the calibrations it had, and its bad pixels."""
    to_slope, to_curve = DELTA / FIELD_NM, DELTA / (FIELD_NM / 2) ** 2
    seed = seed_of(random)
    area = ATOMS | {
        "seed": seed,
        "atom_phase_rad": float(random.uniform(0.3, 0.7)),
        "drift_nm_per_min": list(truth.drift_nm_per_min),
    }
    pixels = bad_pixels(SETUP.pixels, random, dead=0.005)
    one = scene(
        SETUP,
        "there",
        seed=seed,
        areas={"there": area},
        descan_error_mrad_per_nm=(truth.slope_px * to_slope).tolist(),
        misalignment_mrad=[each * DELTA for each in truth.offset_px],
        projector={"descan_quadratic_mrad_per_nm2": (truth.curve_px * to_curve).tolist()},
        scan={"jitter_a_rms": float(random.uniform(0, 0.05))},
        beam={"drift_per_h": float(random.uniform(-0.5, 0.5))},
        **pixels,
    )
    one = replace(one, scan=one.scan.model_copy(update={"flyback_us": FLYBACK_US}))
    mask = mask_of(one)
    # What the calibration before the run found, and what it left.
    middle = (SETUP.pixels - 1) / 2
    geometry = uncalibrated(plan).model_copy(
        update={
            "centre_px": tuple(middle + each + float(random.normal(0, 0.1)) for each in truth.offset_px),
            "disk_radius_px": RADIUS_PX * float(random.normal(1, 0.005)),
            "bad_pixels": tuple((int(y), int(x)) for y, x in np.argwhere(mask)),
        }
    )
    passes = []
    for run, start in enumerate(truth.starts_s):
        spec = accumulator_spec(plan, geometry, threads=1)
        accumulator, buffers = Accumulator(spec), MapBuffers(SETUP.scan, spec)
        frames = frames_of(replace(one, run=run + 1), start)
        buffers.put(slice(0, len(frames)), accumulator.add(frames))
        passes.append(buffers.finished(accumulator))
    return passes, geometry, mask


def judged(number: int) -> tuple[Truth, tuple[QualityResult, ...], np.ndarray]:
    """One run of the trial: its truth, its verdicts, and the places (2, scan_y, scan_x) of the first pass's pattern."""
    random = np.random.default_rng((6, GROUP, number))
    truth = drawn(random)
    plan = plan_of(truth)
    passes, geometry, mask = recorded(truth, plan, random)
    there = PatternGeometry(geometry.centre_px, geometry.disk_radius_px, geometry.mrad_per_pixel)
    return truth, judge(plan, passes, truth.starts_s, there, mask), movement_of(passes[0], STEP_NM).places_px


def trial(number: int) -> list[Case]:
    """The verdicts of one run on drift, descan and centring, beside the truth."""
    truth, results, _ = judged(number)
    return cases_of(truth, results)


def cases_of(truth: Truth, results: tuple[QualityResult, ...]) -> list[Case]:
    """Verdicts beside what is true."""
    found = {one.metric: one for one in results if one.analysis in (None, "com")}
    # The disk is looked for in the mean pattern: a movement that is no plane shifts its middle.
    middle = truth.movement_px().mean(axis=(0, 1)) + truth.offset_px
    offset = float(np.abs(middle).max())
    room = HALF_PX - offset - RADIUS_PX
    # Where less room is left than the plan's limit, the pattern leaves the detector first.
    descan_limit = min(truth.descan_limit_px, 2 * room) if room > 0 else truth.descan_limit_px
    return [
        _case(found["drift.rate"], truth.speed_nm_per_min, truth.drift_limit_nm_per_min),
        _case(found["descan.range"], truth.descan_px, descan_limit),
        _case(found["centring.offset"], offset, OFFSET_LIMIT_PX),
        _case(found["centring.margin"], room, LIMITS["disk_on_detector"].wanted, at_least=True),
    ]


def _case(one: QualityResult, true: float, limit: float, *, at_least: bool = False) -> Case:
    doubt = max(LEAST_DOUBT * limit, 2.5 * (one.uncertainty or 0.0))
    return Case(
        metric=one.metric,
        positive=(true < limit) if at_least else (true > limit),
        doubtful=abs(true - limit) <= doubt,
        verdict=one.verdict,
        note=f"true {true:.4g}, limit {limit:.4g}: {one.message}",
    )
