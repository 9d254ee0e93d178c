"""How long checking and suggesting plans takes."""

import itertools
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from benchmarks.harness import ROOT, Figure
from stem4d.goal import Goal
from stem4d.instrument import InstrumentFacts, InstrumentFile
from stem4d.plan import Plan
from stem4d.rules import apply_change, check
from stem4d.suggest import suggest
from stem4d.verdict import Change
from storage.documents import load_model

FREE_BYTES = 10**12
TRIES = 3
TOLD = "the clock: a person waits for it"


def _seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def _best(work: Callable[[], object]) -> float:
    return min(_seconds(work) for _ in range(TRIES))


def run() -> Iterator[Figure]:
    """One check, a thousand checks, and the slowest shipped goal."""
    facts = load_model(ROOT / "plans" / "instruments" / "demo.toml", InstrumentFile).facts
    plans = [load_model(path, Plan) for path in sorted((ROOT / "plans").glob("*.yaml")) if "night" not in path.name]
    defoci = (Change(field="optics.defocus_nm", value=float(value), unit="nm") for value in itertools.count(1))
    varied = [apply_change(plan, next(defoci)) for plan in itertools.islice(itertools.cycle(plans), 1000)]
    check(varied[0], facts, None, FREE_BYTES)  # imports and first calls
    slowest = max(_best(lambda each=each: check(each, facts, None, FREE_BYTES)) for each in varied[:100])
    told = f"with an instrument, advice included; the best of {TRIES} of each, so that others' load is left out"
    yield Figure("plan check: slowest of 100", 1e3 * slowest, "ms", "<= 50", TOLD, told)
    thousand = _seconds(lambda: [check(each, facts, None, FREE_BYTES) for each in varied])
    yield Figure("plan check: 1000 plans", thousand, "s", "<= 10", TOLD, f"{len(plans)} shipped plans, defocus varied")
    times = {path.stem: _goal_seconds(path, facts) for path in sorted((ROOT / "plans" / "goals").glob("*.yaml"))}
    name = max(times, key=lambda each: times[each])
    detail = ", ".join(f"{each} {seconds:.1f}" for each, seconds in times.items())
    yield Figure("plan suggest: slowest shipped goal", times[name], "s", "<= 10", TOLD, detail)


def _goal_seconds(path: Path, facts: InstrumentFacts) -> float:
    goal = load_model(path, Goal)
    return _seconds(lambda: suggest(goal, facts, free_bytes=FREE_BYTES))
