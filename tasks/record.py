"""Stages that open and close a run in the database, and what they cost as the database keeps it."""

import socket
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from functools import cache
from typing import Any

from prefect import runtime

from db.clock import new_run_name
from db.errors import DatabaseAway
from db.operations import AddDataset, AreaKey, CostFacts, DatasetKey, Environment, FinishRun, RegisterArea, SessionFacts
from db.operations import OpenRun as OpenRunOperation
from db.vocabulary import VACUUM, Purpose, RunState
from devices.acquire import AcquisitionResult
from devices.registry import release_of
from stem4d.approach import FocusArea
from stem4d.errors import NightbeamError
from stem4d.model import canonical_json
from stem4d.plan import Plan
from stem4d.predict import predict
from tasks.environment import software_environment
from tasks.lab import Lab, OpenRun, lab
from tasks.ownership import who
from tasks.snapshot import snapshot
from tasks.stage import stage

NO_BUDGET_E_PER_A2 = 1e12
"""Where there is no specimen there is nothing to harm; the exposures are still booked."""


@stage("open run")
def open_run(
    instrument: str, plan_json: str, target_id: int | None, earlier: list[str], calibrating: bool = False
) -> str:
    """Register plan, specimen and area, and open a run; gives its name. ``earlier`` are the attempts before it.

    ``calibrating`` is a run that measures calibrations only: what the plan itself would take is not predicted of it.
    """
    opened = lab(instrument)
    opened.stand_by()
    opened.watched_anew()
    opened.ownership.check()
    plan = Plan.model_validate_json(plan_json)
    name = new_run_name()
    expected = predict(plan)
    area_id = opened.recorder.record(_area_of(plan))
    run_id = opened.recorder.record(
        OpenRunOperation(
            run=name,
            plan_name=plan.name,
            plan_json=canonical_json(plan),
            area=area_key(plan),
            instrument=instrument,
            target=target_id,
            attempt=len(earlier) + 1,
            parent=earlier[-1] if earlier else None,
            flow_run_id=runtime.flow_run.id,
            environment=Environment(**software_environment(), drivers=_drivers(opened.file.driver)),
            session=SessionFacts(
                owner_token=opened.ownership.token, owner=who(), host=socket.gethostname(), began=opened.opened_at
            ),
            predicted=None
            if calibrating
            else CostFacts(
                seconds=expected.total_time_s,
                size_bytes=expected.compressed_bytes,
                fluence_e_per_a2=expected.total_fluence_e_per_a2,
            ),
        )
    )
    learn_areas(opened, [plan])
    opened.runs[name] = OpenRun(name, run_id, area_id, target_id, plan, opened.instrument.now_s())
    attempt = f", attempt {len(earlier) + 1}" if earlier else ""
    what = "calibrations for " if calibrating else ""
    opened.show("run started", f"{what}{plan.title or plan.name}, area {plan.sample.area}{attempt}", name)
    return name


@cache
def _drivers(name: str) -> dict[str, str]:
    return {name: release_of(name)}


def _area_of(plan: Plan) -> RegisterArea:
    approach = plan.approach
    pose = None if approach is None or approach.pose is None else approach.pose.model_dump(exclude_none=True)
    thumbnail = None if approach is None else approach.thumbnail
    return RegisterArea(area=area_key(plan), pose=pose, thumbnail=thumbnail)


@stage("close run")
def close_run(instrument: str, run: str, state: RunState, reason: str, exposed: dict[str, Any] | None) -> None:
    """Close a run with its state, why, and what it really took."""
    opened = lab(instrument)
    known = opened.runs[run]
    took = _took_s(opened, known)
    actual = _actual(opened, run, exposed) if exposed else None
    opened.recorder.record(FinishRun(run=run, state=state, reason=reason, actual=actual, took_s=took))
    try:
        snapshot(opened, run, "after")
    except NightbeamError as error:
        # The run is closed, and what the instrument was set to at its end is not worth its verdict.
        opened.warn("no snapshot", f"the settings after {run} are not recorded: {error}", run)
    opened.show("run ended", f"{state}: {reason}" if reason else state, run)


def _took_s(opened: Lab, known: OpenRun) -> float | None:
    """How long a run has had the instrument [s]; None where that does not answer: the run is closed all the same."""
    try:
        return opened.instrument.now_s() - known.opened_s
    except NightbeamError:
        return None


@contextmanager
def not_hiding(opened: Lab, what: str) -> Iterator[None]:
    """For closing a run or a night after an error: what goes wrong with that is told and never hides the error."""
    try:
        yield
    except (NightbeamError, OSError) as error:
        opened.show("not closed", f"{what} could not be closed: {error}. The next session on the instrument closes it")


def _actual(opened: Lab, run: str, exposed: dict[str, Any]) -> CostFacts:
    """What a run took of the instrument's time, the disk and the area's dose."""
    passes, acquired = exposed["passes"], opened.recorder.acquired(run)
    return CostFacts(
        seconds=passes[-1]["ended_s"] - passes[0]["started_s"],
        size_bytes=acquired.size_bytes,
        fluence_e_per_a2=acquired.delivered_e_per_a2,
    )


def register_dataset(opened: Lab, run: str, pass_index: int, result: AcquisitionResult) -> int:
    """Register the file of one pass; gives the dataset's id."""
    known, receipt = opened.runs[run], result.receipt
    return opened.recorder.record(
        AddDataset(
            dataset=DatasetKey(run=run, pass_index=pass_index),
            sha256=receipt.sha256,
            size_bytes=receipt.bytes,
            scan_shape=known.plan.scan.shape,
            detector_shape=known.plan.detector.shape,
            dtype=result.dtype,
            frames=receipt.frames_written,
            complete=receipt.complete,
            path=str(receipt.path),
            host=socket.gethostname(),
        )
    )


def tell_losses(opened: Lab, run: str, what: str, result: AcquisitionResult) -> None:
    """An event with the numbers, where frames of a pass or scan are missing, corrupt or came twice."""
    if losses := result.frames.losses(ended=not result.stopped):
        figures = {**asdict(result.frames), "held_up_s": round(result.held_up_s, 3)}
        opened.tell("frames lost", f"{what}: {losses}; the file's ledger says which", run=run, **figures)


CALIBRATION_SCANS_FROM = 1000
"""Number of a run's first calibration scan among its datasets: beyond the most passes that a plan can have."""


def register_scan(
    opened: Lab,
    run: str,
    scan_shape: tuple[int, int],
    detector_shape: tuple[int, int],
    result: AcquisitionResult,
    purpose: Purpose = "calibration",
) -> int:
    """Register the file of a scan that is no pass of the plan; gives the dataset's id."""
    receipt, number = result.receipt, CALIBRATION_SCANS_FROM + opened.recorder.acquired(run).scans
    return opened.recorder.record(
        AddDataset(
            dataset=DatasetKey(run=run, pass_index=number),
            sha256=receipt.sha256,
            size_bytes=receipt.bytes,
            scan_shape=scan_shape,
            detector_shape=detector_shape,
            dtype=result.dtype,
            frames=receipt.frames_written,
            complete=receipt.complete,
            purpose=purpose,
            path=str(receipt.path),
            host=socket.gethostname(),
        )
    )


def vacuum_area(opened: Lab, plan: Plan) -> int:
    """The area without a specimen that calibration exposures of this specimen's holder are booked on."""
    key = AreaKey(sample=plan.sample.name, name=VACUUM, fluence_budget_e_per_a2=NO_BUDGET_E_PER_A2)
    return opened.recorder.record(RegisterArea(area=key, specimen=False))


def area_key(plan: Plan, name: str = "") -> AreaKey:
    """The area of a plan, or another one of its sample with the same budget."""
    sample = plan.sample
    return AreaKey(sample=sample.name, name=name or sample.area, fluence_budget_e_per_a2=sample.fluence_budget_e_per_a2)


def focus_key(sample: str, area: FocusArea) -> AreaKey:
    """The area beside a target that focusing may expose."""
    return AreaKey(sample=sample, name=area.name, fluence_budget_e_per_a2=area.fluence_budget_e_per_a2)


def learn_areas(opened: Lab, plans: Iterable[Plan]) -> None:
    """Look up what areas and spare areas of plans may receive, so that the database may be away later."""
    keys = []
    for plan in plans:
        keys += [area_key(plan, name) for name in (plan.sample.area, *plan.sample.spare_areas)]
        if plan.approach is not None and plan.approach.focus_area is not None:
            keys.append(focus_key(plan.sample.name, plan.approach.focus_area))
    opened.recorder.learn(keys)


def fluence_left_e_per_a2(opened: Lab, run: str) -> float:
    """What the run's area may still receive [e/Å²].

    Raises
    ------
    DatabaseAway
        Where nothing is known of it.
    """
    key = opened.recorder.area(opened.runs[run].area_id)
    left = opened.recorder.left_e_per_a2(key)
    if left is None:
        raise DatabaseAway(f"area {key.name}: what it has received is not known while the database is away")
    return left
