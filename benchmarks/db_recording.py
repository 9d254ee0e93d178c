"""What recording a run takes: step by step as a run records itself, and by 32 recorders that write at one time."""

import os
import statistics
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from hashlib import sha256
from uuid import uuid4

from sqlalchemy import func, select

from benchmarks.db_load import KEPT
from benchmarks.harness import Figure
from db import calibrations, dose, record, results
from db.engine import Engine, Session, reader, writer
from db.models import DoseEntry, QualityResult, Run

ALONE, RECORDERS, EACH = 40, 32, 5
LIMIT_MS = 15.0
TOLD = "the clock: a run waits for it between its stages"
SAMPLE, AREA, BUDGET = "bench of recording", "a", 1e15
READINGS, FIGURES, ROLES = 8, 5, ("centre", "descan", "current")


def one_after_another(backend: str, engine: Engine) -> Iterator[Figure]:
    """All that a run records of itself, in the transactions in which it does so; median over runs."""
    flush = statistics.median(_flush_ms() for _ in range(ALONE))
    for words, at_once in ((f"{len(STEPS)} transactions, as a run does", False), ("one transaction", True)):
        record_run(engine, at_once=at_once)
        times = []
        for _number in range(ALONE):
            begun = time.perf_counter()
            record_run(engine, at_once=at_once)
            times.append(1e3 * (time.perf_counter() - begun))
        yield Figure(
            f"database {backend}: recording one run, {words}",
            statistics.median(times),
            "ms",
            f"<= {LIMIT_MS:g}",
            TOLD,
            f"{ALONE} runs; p95 {statistics.quantiles(times, n=20)[-1]:.1f}; the disk takes {flush:.1f} ms for "
            "a flush, and each commit waits for one",
        )


def _flush_ms() -> float:
    """How long the disk takes to keep a page of 4 kB for good [ms]."""
    with (KEPT / "flush").open("wb", buffering=0) as file:
        file.write(bytes(4096))
        begun = time.perf_counter()
        os.fsync(file.fileno())
        return 1e3 * (time.perf_counter() - begun)


def all_at_once(engine: Engine) -> Iterator[Figure]:
    """Recorders on one area at a time: what they recorded is there, once each."""
    with ThreadPoolExecutor(RECORDERS) as pool:
        begun = time.perf_counter()
        made = pool.map(lambda _one: [record_run(engine) for _ in range(EACH)], range(RECORDERS))
        names = [name for each in made for name in each]
        took_s = time.perf_counter() - begun
    with reader(engine) as session:
        runs = session.scalar(select(func.count()).select_from(Run).where(Run.name.in_(names), Run.state == "done"))
        doses = session.scalar(select(func.count()).select_from(DoseEntry).where(DoseEntry.reason.in_(names)))
        figures = session.scalar(
            select(func.count()).select_from(QualityResult).where(QualityResult.message.in_(names))
        )
    wanted = RECORDERS * EACH
    wrong = abs(wanted - (runs or 0)) + abs(wanted - (doses or 0)) + abs(FIGURES * wanted - (figures or 0))
    yield Figure(
        f"database postgresql: rows lost or doubled by {RECORDERS} recorders",
        float(wrong),
        "",
        "<= 0",
        "what was recorded",
        f"{wanted} runs on one area in {took_s:.1f} s: {runs} runs, {doses} doses, {figures} figures",
    )


def record_run(engine: Engine, *, at_once: bool = False) -> str:
    """Record a run with its readings, calibrations, figures and dose; gives its name."""
    name = f"r{datetime.now(UTC):%Y%m%d-%H%M%S}-{uuid4().hex[:12]}"
    told: dict[str, int] = {}
    for steps in [STEPS] if at_once else [(step,) for step in STEPS]:
        with writer(engine) as session:
            for step in steps:
                step(session, name, told)
    return name


Told = dict[str, int]


def _open(session: Session, name: str, told: Told) -> None:
    sample = record.register_sample(session, name=SAMPLE)
    told["area"] = record.register_area(session, sample_id=sample, name=AREA, fluence_budget_e_per_a2=BUDGET)
    plan = record.register_plan(session, name="bench", canonical_json='{"bench":true}')
    told["run"] = record.start_run(session, name=name, plan_id=plan, area_id=told["area"], instrument="bench")


def _settings(session: Session, _name: str, told: Told) -> None:
    now = datetime.now(UTC)
    readings = [
        results.Reading(f"bench_{number}_nm", 1.0 * number, "nm", "measured", now) for number in range(READINGS)
    ]
    results.add_snapshot(session, run_id=told["run"], phase="before", readings=readings)
    uses = [calibrations.Use(number, role) for number, role in enumerate(ROLES, 1)]
    calibrations.use_calibrations(session, run_id=told["run"], uses=uses)


def _intent(session: Session, name: str, told: Told) -> None:
    told["intent"] = dose.open_intent(
        session, run_id=told["run"], area_id=told["area"], purpose="acquisition", token=name, fluence_e_per_a2=1.0
    )


def _data(session: Session, name: str, told: Told) -> None:
    dose.close_intent(session, intent_id=told["intent"], delivered_e_per_a2=1.0, electrons=1e6, reason=name)
    results.add_dataset(
        session,
        run_id=told["run"],
        pass_index=0,
        sha256=sha256(name.encode()).hexdigest(),
        size_bytes=1,
        scan_shape=(64, 64),
        detector_shape=(192, 192),
        dtype="uint16",
        frames=4096,
        complete=True,
        path=f"/data/{name}.h5",
        host="bench",
    )


def _judged(session: Session, name: str, told: Told) -> None:
    figures = [results.Figure(f"bench.{number}", "pass", name, value=1.0) for number in range(FIGURES)]
    results.add_figures(session, run_id=told["run"], stage="final", figures=figures)


def _close(session: Session, _name: str, told: Told) -> None:
    record.finish_run(session, run_id=told["run"], state="done", actual=record.Cost(1.0, 1, 1.0))


STEPS: tuple[Callable[[Session, str, Told], None], ...] = (_open, _settings, _intent, _data, _judged, _close)
"""In the order and the transactions in which a run records itself."""
