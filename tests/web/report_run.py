"""A recorded run for the reports to be made of: a database and files as an acquisition leaves them."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from db.calibrations import add_calibration, use_calibration
from db.dose import close_intent, open_intent
from db.engine import open_engine, writer
from db.record import (
    Cost,
    add_event,
    add_target,
    finish_night,
    finish_run,
    register_area,
    register_environment,
    register_plan,
    register_sample,
    set_target_state,
    start_night,
    start_run,
)
from db.results import add_analysis, add_dataset, add_quality, add_remedy
from stem4d.accumulate import Accumulator, AccumulatorSpec, Annulus
from stem4d.maps import RunMaps
from stem4d.model import canonical_json
from stem4d.night import Night
from stem4d.plan import Plan
from storage.spec import FileReceipt, FileSpec
from storage.write import FrameWriter

SCAN, DETECTOR, CENTRE_PX, RADIUS_PX = (24, 40), (32, 32), (15.0, 17.0), 8.0
RUN, REFUSED, NIGHT = "r20261122-210413-7f3a", "r20261122-211000-0001", "n20261122-205959-00ff"
PLAN_JSON = """{
 "format_version": 1, "name": "overview", "title": "Overview of a <grain>",
 "sample": {"name": "crystal", "area": "lamella-1", "sensitivity": "robust", "thickness_nm": 5.0,
            "fluence_budget_e_per_a2": 200000.0},
 "analyses": [{"kind": "virtual", "detectors": [
    {"name": "bright_field", "inner_mrad": 0.0, "outer_mrad": 16.0},
    {"name": "dark_field", "inner_mrad": 18.0, "outer_mrad": 28.0}]}],
 "optics": {"beam_energy_kev": 200.0, "convergence_semi_angle_mrad": 16.0, "probe_current_pa": 10.0,
            "camera_length_mm": 50.0},
 "scan": {"shape": [24, 40], "step_nm": 0.1},
 "exposure": {"dwell_time_us": 50.0, "passes": 2},
 "detector": {"name": "sim", "shape": [32, 32], "pixel_pitch_um": 100.0, "bit_depth": 12}}"""
PLAN = Plan.model_validate_json(PLAN_JSON)


class Ticking:
    """A clock that is one second later at each call."""

    def __init__(self) -> None:
        self.now = datetime(2026, 11, 22, 21, 4, 13, tzinfo=UTC)

    def __call__(self) -> datetime:
        self.now += timedelta(seconds=1)
        return self.now


@dataclass(frozen=True)
class Recorded:
    """Where the run is recorded."""

    engine: Any
    data: Path
    receipts: list[FileReceipt]


def frames(shift_px: float, contrast: float = 0.0, drifted: tuple[int, int] = (0, 0)) -> NDArray[np.uint16]:
    """Disks whose centre moves by ``shift_px`` along y over the rows, with one hot pixel and a blotchy specimen.

    The specimen lies ``drifted`` scan positions (y, x) from where it would be.
    """
    blotches = gaussian_filter(np.random.default_rng(8).normal(size=(SCAN[0] + 8, SCAN[1] + 8)), 1.2)
    y0, x0 = 4 - drifted[0], 4 - drifted[1]
    specimen = blotches[y0 : y0 + SCAN[0], x0 : x0 + SCAN[1], None, None] * contrast / blotches.std()
    rng = np.random.default_rng([5, *(4 + step for step in drifted)])
    y, x = np.mgrid[: DETECTOR[0], : DETECTOR[1]]
    moved = np.linspace(-0.5, 0.5, SCAN[0])[:, None, None, None] * shift_px
    distance = np.hypot(y - CENTRE_PX[0] - moved, x - CENTRE_PX[1])
    expected = np.broadcast_to(
        60 / (1 + np.exp((distance - RADIUS_PX) / 0.3)) * (1 + specimen) + 0.5, (*SCAN, *DETECTOR)
    )
    counts = rng.poisson(expected).astype(np.uint16)
    counts[..., 2, 3] = 4000
    return counts


def write_file(path: Path, counts: NDArray[np.uint16]) -> FileReceipt:
    """The frames with their online maps, as an acquisition writes them."""
    bad = np.zeros(DETECTOR, bool)
    bad[2, 3] = True
    rings = {"disk": (0.0, 8.0), "beyond_disk": (9.0, 40.0), "bright_field": (0.0, 8.0), "dark_field": (9.0, 14.0)}
    spec = AccumulatorSpec(
        detector_shape=DETECTOR,
        dtype="uint16",
        detectors=tuple(Annulus(name, CENTRE_PX, *radii) for name, radii in rings.items()),
        full_scale=4095,
        bad_pixels=bad,
        com_region=Annulus("com", CENTRE_PX, 0.0, 1.25 * RADIUS_PX),
        threads=1,
    )
    accumulator = Accumulator(spec)
    stack = counts.reshape(-1, *DETECTOR)
    got = accumulator.add(stack)
    maps = RunMaps(
        recorded=np.ones(SCAN, bool),
        total=got.total.reshape(SCAN).astype(np.uint64),
        com_y_px=got.centre_px[:, 0].reshape(SCAN).astype(np.float32),
        com_x_px=got.centre_px[:, 1].reshape(SCAN).astype(np.float32),
        maximum=got.maximum.reshape(SCAN).astype(np.uint32),
        saturated_px=got.saturated_px.reshape(SCAN),
        invalid_px=got.invalid_px.reshape(SCAN),
        sum_pattern=accumulator.sum_pattern,
        max_pattern=accumulator.max_pattern.astype(np.uint32),
        full_scale=4095,
        virtual={name: got.virtual[:, i].reshape(SCAN).astype(np.uint64) for i, name in enumerate(rings)},
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    file = FileSpec(path, SCAN, DETECTOR, "uint16", 0.1, 2.0, 4095, {}, tuple(rings), reserve_bytes=0)
    with FrameWriter(file) as out:
        out.write(0, stack)
        return out.finish(maps.as_arrays())


def record(folder: Path) -> Recorded:
    """A night of two targets: one acquired and mended, one refused."""
    data = folder / "data"
    receipts = [
        write_file(data / RUN / f"pass{i + 1}.h5", frames(0.2, 0.2, moved)) for i, moved in enumerate(((0, 0), (1, -2)))
    ]
    write_file(data / RUN / "vacuum-before.h5", frames(4.0))
    write_file(data / RUN / "vacuum-after.h5", frames(0.1))
    engine = open_engine(f"sqlite:///{folder / 'nightbeam.db'}")
    clock = Ticking()
    night = Night.model_validate_json(
        '{"format_version": 1, "name": "two", "title": "Two targets", "instrument": "demo.toml",'
        ' "targets": [{"name": "good", "plan": "a.yaml"}, {"name": "bad", "plan": "b.yaml", "expect": "refused"}]}'
    )
    with writer(engine) as session:
        night_id = start_night(session, name=NIGHT, canonical_json=canonical_json(night), clock=clock)
        plan_id = register_plan(session, name=PLAN.name, canonical_json=canonical_json(PLAN), clock=clock)
        sample_id = register_sample(session, name="crystal", clock=clock)
        area_id = register_area(
            session, sample_id=sample_id, name="lamella-1", fluence_budget_e_per_a2=2e5, clock=clock
        )
        vacuum_id = register_area(
            session, sample_id=sample_id, name="vacuum", fluence_budget_e_per_a2=1e12, clock=clock
        )
        environment_id = register_environment(
            session, python="3.11.9", packages={"nightbeam": "0.1.0"}, code_revision="abc"
        )
        targets = [
            add_target(session, night_id=night_id, position=i, name=name, plan_id=plan_id)
            for i, name in enumerate(("good", "bad"))
        ]
        same: dict[str, Any] = {
            "plan_id": plan_id,
            "area_id": area_id,
            "instrument": "demo",
            "environment_id": environment_id,
            "predicted": Cost(0.012, 491520, 3121.0),
            "clock": clock,
        }
        run_id = start_run(session, name=RUN, target_id=targets[0], **same)
        _calibrate(session, run_id, vacuum_id, clock)
        intent = open_intent(
            session, run_id=run_id, area_id=area_id, purpose="acquisition", token="p1", fluence_e_per_a2=3121.0,
            clock=clock,
        )  # fmt: skip
        close_intent(session, intent_id=intent, delivered_e_per_a2=3200.0, electrons=7.5e5, clock=clock)
        for index, receipt in enumerate(receipts):
            add_dataset(
                session, run_id=run_id, pass_index=index, sha256=receipt.sha256, size_bytes=receipt.bytes,
                scan_shape=SCAN, detector_shape=DETECTOR, dtype="uint16", frames=receipt.frames_written, complete=True,
                path=str(receipt.path), host="here",
            )  # fmt: skip
        for metric, value, verdict in (("descan.range", 0.2, "pass"), ("drift.rate", None, "not_measurable")):
            add_quality(
                session, run_id=run_id, stage="final", metric=metric, verdict=verdict, message=f"{metric} seen",
                value=value, limit=1.0, unit="px",
            )  # fmt: skip
        add_remedy(
            session, run_id=run_id, cause_metric="saturation.disk", action="reduce_dwell", outcome="0 px saturated",
            from_value={"exposure.dwell_time_us": 100.0}, to_value={"exposure.dwell_time_us": 50.0},
            cost="another exposure",
        )  # fmt: skip
        add_remedy(session, run_id=run_id, cause_metric="descan.range", action="correct_descan", outcome="0.1 px")
        add_analysis(session, run_id=run_id, method="virtual", verdict="good", reason="All is well")
        add_event(session, kind="pass recorded", message="pass 1 of 1", run_id=run_id, target_id=targets[0],
                  night_id=night_id, clock=clock)  # fmt: skip
        finish_run(session, run_id=run_id, state="done", actual=Cost(0.02, receipts[0].bytes, 3200.0), clock=clock)
        set_target_state(session, target_id=targets[0], state="mended", reason="the dwell was halved", clock=clock)
        refused_id = start_run(session, name=REFUSED, target_id=targets[1], **same)
        add_quality(session, run_id=refused_id, stage="plan", metric="scan.overlap", verdict="fail",
                    message="no overlap", value=0.1, limit=0.6)  # fmt: skip
        finish_run(session, run_id=refused_id, state="refused", exit_reason="no overlap", clock=clock)
        set_target_state(session, target_id=targets[1], state="refused", reason="no overlap", clock=clock)
        finish_night(session, night_id=night_id, state="done", exit_reason="1 mended, 1 refused", clock=clock)
    return Recorded(engine, data, receipts)


def _calibrate(session: Any, run_id: int, vacuum_id: int, clock: Ticking) -> None:
    intent = open_intent(
        session, run_id=run_id, area_id=vacuum_id, purpose="calibration", token="v", fluence_e_per_a2=9e6, clock=clock
    )
    close_intent(session, intent_id=intent, delivered_e_per_a2=9e6, clock=clock)
    values: dict[str, Any] = {
        "pixel_mask": {"bad_pixels": [[2, 3]]},
        "disk": {"centre_px": list(CENTRE_PX), "radius_px": RADIUS_PX},
        "descan": {"descan_mrad_per_nm": [[0.1, 0.0], [0.0, 0.1]], "range_before_px": 4.0, "range_after_px": 0.1},
    }
    for kind, value in values.items():
        calibration_id = add_calibration(
            session, kind=kind, mode_key="m", instrument="demo", value=value, unit="px", measured_at=clock(),
            verdict="pass", evidence_run_id=run_id,
        )  # fmt: skip
        use_calibration(session, run_id=run_id, calibration_id=calibration_id, role=kind)
