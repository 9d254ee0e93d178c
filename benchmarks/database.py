"""Every question to the record at ten thousand and at a million runs, and recording, on SQLite and PostgreSQL."""

import os
import statistics
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from random import Random

from sqlalchemy import select

from benchmarks.db_load import BACKENDS, FULL, kept, server
from benchmarks.db_questions import QUESTIONS, Question, Subject
from benchmarks.db_recording import all_at_once, one_after_another
from benchmarks.harness import Figure
from db.engine import Engine, reader
from db.models import Area, Night, Run, RunCalibration, Sample, Target

SMALL = 10_000
RUNS = int(os.environ.get("RUNS", FULL))
TIMES = 60
"""Calls that are timed of each question, each of another subject, after one of the same that warms up."""
AFFECTED = "affected, 10 000 data sets, first page"
LIMITS_MS = {AFFECTED: 300.0}
MEDIAN_MS, P95_MS, GROWTH = 20.0, 100.0, 2.0
TOLD = "the clock: a person waits for it"


@dataclass(frozen=True)
class Timed:
    """Milliseconds that a question took."""

    times: tuple[float, ...]
    first: float
    """The median of those before, where a part came from the disk."""

    @property
    def median(self) -> float:
        """The middle one."""
        return statistics.median(self.times)

    @property
    def p95(self) -> float:
        """What one in twenty exceeds."""
        return statistics.quantiles(self.times, n=20)[-1]


def run() -> Iterator[Figure]:
    """Questions on both databases at both sizes, the growth between them, and what recording a run takes."""
    with ExitStack() as stack:
        postgres = stack.enter_context(server())
        for backend in BACKENDS:
            told: dict[int, dict[str, Timed]] = {}
            for runs in sorted({SMALL, RUNS}):
                with kept(backend, runs, postgres) as engine:
                    told[runs] = {question.name: timed(engine, question, runs) for question in QUESTIONS}
                    if runs == RUNS:
                        recorded = list(one_after_another(backend, engine))
                        if backend == "postgresql":
                            recorded += all_at_once(engine)
            yield from _figures(backend, told)
            yield from recorded


def timed(engine: Engine, question: Question, runs: int) -> Timed:
    """Times of a question, each call a transaction of its own as a command makes it."""
    subjects = subjects_of(engine, runs)
    first, times = ([_asked(engine, question, subject) for subject in subjects] for _ in range(2))
    return Timed(tuple(times), statistics.median(first))


def _asked(engine: Engine, question: Question, subject: Subject) -> float:
    begun = time.perf_counter()
    with reader(engine) as session:
        question.ask(session, subject)
    return 1e3 * (time.perf_counter() - begun)


def subjects_of(engine: Engine, runs: int) -> Sequence[Subject]:
    """Runs that are asked for, the same each time, with what belongs to them: a specimen of many runs comes often."""
    random = Random(1)
    ids = [random.randint(1, runs) for _ in range(TIMES)]
    with reader(engine) as session:
        found = session.execute(
            select(
                Run.id, Run.name, Sample.name, Night.name, Run.instrument, Run.started, RunCalibration.calibration_id
            )
            .join(Area, Run.area_id == Area.id)
            .join(Sample, Area.sample_id == Sample.id)
            .join(Target, Run.target_id == Target.id)
            .join(Night, Target.night_id == Night.id)
            .join(RunCalibration, RunCalibration.run_id == Run.id)
            .where(Run.id.in_(ids), RunCalibration.role == "centre")
        )
        by_id = {row[0]: row for row in found}
    return [Subject(number, *by_id[one]) for number, one in enumerate(ids)]


def _figures(backend: str, told: dict[int, dict[str, Timed]]) -> Iterator[Figure]:
    large, small = told[RUNS], told[SMALL]
    growth: dict[str, float] = {}
    for question in QUESTIONS:
        one, before = large[question.name], small[question.name]
        growth[question.name] = one.median / before.median
        limit = LIMITS_MS.get(question.name, MEDIAN_MS)
        yield Figure(
            f"database {backend}: {question.name}",
            one.median,
            "ms",
            f"<= {limit:g}",
            TOLD,
            f"median of {TIMES} at {RUNS} runs; p95 {one.p95:.1f}; the first time {one.first:.1f}; "
            f"at {SMALL} runs {before.median:.1f}, p95 {before.p95:.1f}: {growth[question.name]:.2f} times as long",
        )
    slow = max(QUESTIONS, key=lambda one: large[one.name].p95 / (3 if one.name == AFFECTED else 1))
    yield Figure(f"database {backend}: slowest p95", large[slow.name].p95, "ms", f"<= {P95_MS:g}", TOLD, slow.name)
    worst = max(growth, key=lambda name: growth[name])
    over = [f"{name} {ratio:.1f}" for name, ratio in growth.items() if ratio > GROWTH]
    yield Figure(
        f"database {backend}: largest growth of a median",
        growth[worst],
        "",
        f"<= {GROWTH:g}",
        f"the same at {SMALL} runs",
        f"{worst}; above {GROWTH:g}: {', '.join(over) or 'none'}",
    )
