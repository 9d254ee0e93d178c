"""A facility's record, made up: any number of runs with all their rows, as tuples by table, the same each time."""

import json
from bisect import bisect
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from itertools import accumulate
from random import Random
from typing import Any

from benchmarks.harness import ROOT
from stem4d.model import canonical_json
from stem4d.plan import Plan
from storage.documents import load_model

CHUNK = 5000
"""Runs made at once."""
BIG = 10_000
"""Data sets of the first mask of the first instrument: a calibration that stood for months."""
BEGAN = datetime(2021, 1, 4, tzinfo=UTC)
EVERY = timedelta(seconds=150)
RUNS_A_NIGHT = 40
Rows = dict[str, list[tuple[Any, ...]]]

COLUMNS = {
    "sample": "id name registered",
    "area": "id sample_id name fluence_budget_e_per_a2 registered",
    "plan": "id sha256 name canonical_json registered",
    "software_environment": "id sha256 python packages code_revision drivers",
    "session": "id instrument owner_token owner host began",
    "night": "id name sha256 canonical_json state exit_reason started ended instrument",
    "target": "id night_id position name plan_id state expected_state reason broken_off predicted_seconds "
    "actual_seconds priority owner_token",
    "run": "id name plan_id target_id area_id environment_id instrument attempt parent_id state exit_reason verdict "
    "started ended predicted_seconds predicted_bytes predicted_fluence_e_per_a2 actual_seconds actual_bytes "
    "actual_fluence_e_per_a2 session_id",
    "event": "sequence time night_id target_id run_id kind message data",
    "exposure_intent": "id run_id area_id purpose token fluence_e_per_a2 opened closed",
    "dose_entry": "id intent_id area_id intended_e_per_a2 delivered_e_per_a2 electrons reason recorded",
    "calibration": "id kind mode_key instrument value uncertainty unit measured_at valid_until superseded_by "
    "evidence_run_id verdict residual reason rests_on",
    "calibration_basis": "id calibration_id basis_id",
    "calibration_evidence": "id calibration_id dataset_id",
    "calibration_withdrawal": "id calibration_id withdrawn_by reason withdrawn_at",
    "run_calibration": "id run_id calibration_id role accepted_stale",
    "device_snapshot": "id run_id phase taken_at",
    "reading": "id snapshot_id name number text unit source read_at",
    "dataset": "id run_id pass_index sha256 size_bytes scan_y scan_x det_y det_x dtype frames complete purpose",
    "dataset_location": "id dataset_id path host",
    "quality_result": "id run_id stage metric analysis value limit_value unit verdict message",
    "remedy": "id run_id cause_metric action from_value to_value cost outcome",
    "analysis_result": "id run_id method verdict reason path",
    "landed": "key row_id landed",
}
"""Tables in an order in which what is referred to comes first, with the columns that are filled."""

KINDS = {"pixel_mask": 2000, "descan": 120, "centre": 20}
"""Kinds of calibration, and the runs that one serves on average."""
REASONS = (
    "saturation: 0.3 % of the pixels at full scale",
    "the beam was lost after row 12",
    "probe overlap 0.2 < 0.6",
    "drift 1.4 nm/min is above 0.5 nm/min",
    "the vacuum gauge reads 2e-4 Pa",
    "stopped by a person",
    "the detector did not answer within 30 s",
)
STATES = ("done", "mended", "marked", "refused", "stopped", "failed", "crashed")
STATE_SHARES = (0.84, 0.05, 0.04, 0.03, 0.02, 0.015, 0.005)
VERDICTS, VERDICT_SHARES = ("pass", "warn", "fail", "not_measurable"), (0.86, 0.09, 0.04, 0.01)
METHODS = ("com", "ptychography", "strain", "adf")
METRICS = (
    ("centring.offset_px", 2.0, "px"),
    ("descan.residual_px", 0.5, "px"),
    ("drift.rate_nm_per_min", 1.0, "nm/min"),
    ("dose.electrons_per_pixel", 100.0, "e"),
    ("saturation.part", 1e-6, ""),
)
VOLTAGES = (80.0, 200.0, 300.0)


def made(runs: int) -> Iterator[Rows]:
    """Rows of so many runs, some thousand runs at a time.

    A run has 8 readings, 3 calibrations, 5 figures of quality, an exposure, one or two data sets, an analysis and three
    events. Specimens differ: few have most of the runs, none more than some thousands. A mask serves 2000 runs, a
    centre 20; one mask served 10 000 data sets.
    """
    world = _World(runs)
    for first in range(1, runs + 1, CHUNK):
        rows: Rows = {table: [] for table in COLUMNS}
        for number in range(first, min(first + CHUNK, runs + 1)):
            world.add(number, rows)
        yield rows
    yield world.ended()


@dataclass
class _Specimen:
    area: int
    plan: int
    left: int
    """Runs that are still to come."""
    used: int = 0


@dataclass
class _Standing:
    """The calibrations of an instrument that are in force, each with the runs, or data sets, that it has left."""

    ids: dict[str, int] = field(default_factory=dict)
    left: dict[str, int] = field(default_factory=dict)


def _time(at: datetime) -> str:
    # As SQLite keeps it; PostgreSQL reads it in the zone of the session, which is UTC.
    return at.strftime("%Y-%m-%d %H:%M:%S.%f")


def _choice(random: Random, words: tuple[str, ...], shares: tuple[float, ...]) -> str:
    return words[min(bisect(list(accumulate(shares)), random.random()), len(words) - 1)]


class _World:
    """What the rows before have led to."""

    def __init__(self, runs: int) -> None:
        self.random = Random(4)
        self.counts = dict.fromkeys(COLUMNS, 0)
        instruments = max(2, runs // 10_000)
        self.instruments = [f"microscope-{number:03d}" for number in range(instruments)]
        self.standing = [_Standing() for _ in self.instruments]
        self.calibrations: dict[int, list[Any]] = {}
        self.specimens: list[_Specimen] = []
        self.night = self.session = self.environment = self.position = 0
        self.instrument = 0
        self.plan = load_model(ROOT / "plans" / "case_a.yaml", Plan)
        text = canonical_json(self.plan)
        value = json.dumps(self.plan.optics.defocus_nm)
        self.plan_parts = text.split(f'"defocus_nm":{value}', 1)
        self.late: Rows = {table: [] for table in COLUMNS}

    def next(self, table: str) -> int:
        self.counts[table] += 1
        return self.counts[table]

    def add(self, number: int, rows: Rows) -> None:
        """One run with everything of it."""
        random, at = self.random, BEGAN + EVERY * number
        if self.position % RUNS_A_NIGHT == 0:
            self._night(at, rows)
        if number % 20_000 == 1 or number == 5_001:
            self._environment(number, rows)
        specimen = self._specimen(number, at, rows)
        again = self.position % RUNS_A_NIGHT != 0 and random.random() < 0.05 and number > 1
        if not again:
            self._target(number, specimen, rows)
        self.position += 1
        state = _choice(random, STATES, STATE_SHARES)
        reason = None if state in ("done", "mended") else f"{random.choice(REASONS)}, case {random.randrange(100_000)}"
        name = f"r{at:%Y%m%d-%H%M%S}-{number % 65536:04x}"
        fluence = round(random.expovariate(1 / 800) + 1, 3)
        dwell = random.choice((20.0, 50.0, 100.0, 500.0))
        verdicts = [_choice(random, VERDICTS, VERDICT_SHARES) for _ in METRICS]
        worst = next(one for one in ("fail", "warn", "not_measurable", "pass") if one in verdicts)
        target, instrument = self.counts["target"], self.instruments[self.instrument]
        began, ended = _time(at), _time(at + EVERY / 2)
        size = 65536 * 192 * 192 * 2
        rows["run"].append(
            (number, name, specimen.plan, target, specimen.area, self.environment, instrument, 2 if again else 1,
             number - 1 if again else None, state, reason, worst, began, ended, 60.0, size, fluence,
             60.0 + random.random() * 20, size, fluence, self.session)
        )  # fmt: skip
        for kind, message in (
            ("run_started", f"run {name} started, attempt 1"),
            ("run_ended", f"run {name}: {state}"),
            ("took", "72.4 s of the instrument's time, waiting and calibrating included"),
        ):
            data = '{"seconds":72.4}' if kind == "took" else None
            rows["event"].append((self.next("event"), ended, self.night, target, number, kind, message, data))
        intent = self.next("exposure_intent")
        rows["exposure_intent"].append(
            (intent, number, specimen.area, "acquisition", f"{name}/0", fluence, began, ended)
        )
        rows["dose_entry"].append((intent, intent, specimen.area, fluence, fluence, fluence * 1e4, None, ended))
        self._readings(number, at, began, dwell, rows)
        sets = 2 if random.random() < 0.2 else 1
        for index in range(sets):
            self._dataset(number, index, name, "acquisition", rows)
        self._calibrate(number, at, name, sets, rows)
        for (metric, limit, unit), verdict in zip(METRICS, verdicts, strict=True):
            value = limit * random.random() * (1 if verdict == "pass" else 3)
            message = f"{metric} is {value:.3g} {unit}, the limit is {limit:g} {unit}"
            rows["quality_result"].append(
                (self.next("quality_result"), number, "final", metric, None, value, limit, unit, verdict, message)
            )
        if again:
            rows["remedy"].append(
                (
                    self.next("remedy"),
                    number - 1,
                    METRICS[4][0],
                    "dwell_time_us",
                    "100.0",
                    "50.0",
                    "twice the noise",
                    "",
                )
            )
        verdict = _choice(random, ("good", "doubtful", "not_possible"), (0.9, 0.07, 0.03))
        method = _choice(random, METHODS, (0.6, 0.3, 0.09, 0.01))
        rows["analysis_result"].append(
            (self.next("analysis_result"), number, method, verdict, f"{method}: {verdict}", f"/data/{name}/{method}.h5")
        )
        rows["landed"].append((sha256(name.encode()).hexdigest(), number, ended))

    def ended(self) -> Rows:
        """What was known at the end only."""
        self.late["calibration"] = [tuple(one) for one in self.calibrations.values()]
        return self.late

    def _night(self, at: datetime, rows: Rows) -> None:
        random, self.night, self.session = self.random, self.next("night"), self.next("session")
        first = self.standing[0]
        # The first instrument has most of the runs until its first mask has served its time.
        busy = first.ids.get("pixel_mask", 1) == 1 and random.random() < 0.95
        self.instrument = 0 if busy else random.randrange(len(self.instruments))
        began, name = _time(at), f"n{at:%Y%m%d-%H%M%S}-{self.night % 65536:04x}"
        state = _choice(random, ("done", "stopped", "failed", "crashed"), (0.9, 0.05, 0.04, 0.01))
        reason = None if state == "done" else random.choice(REASONS)
        instrument = self.instruments[self.instrument]
        rows["session"].append((self.session, instrument, self.session, "ada (nightbeam night)", "control-pc", began))
        rows["night"].append(
            (self.night, name, sha256(name.encode()).hexdigest(), '{"targets":[]}', state, reason, began,
             _time(at + EVERY * RUNS_A_NIGHT), instrument)
        )  # fmt: skip
        for kind in ("night_started", "night_ended"):
            rows["event"].append((self.next("event"), began, self.night, None, None, kind, f"night {name}", None))

    def _environment(self, number: int, rows: Rows) -> None:
        self.environment = self.next("software_environment")
        packages = {f"package-{each}": f"{each % 7}.{self.environment if each < 5 else 1}.0" for each in range(150)}
        revision = sha256(str(number).encode()).hexdigest()[:40]
        rows["software_environment"].append(
            (self.environment, sha256(revision.encode()).hexdigest(), "3.11.7", json.dumps(packages), revision,
             '{"simulator":"nightbeam 0.3.0"}')
        )  # fmt: skip

    def _specimen(self, number: int, at: datetime, rows: Rows) -> _Specimen:
        """The specimen of a run: some tens are in work at a time, each until it has had all its runs."""
        random = self.random
        while len(self.specimens) < 40:
            sample = self.next("sample")
            rows["sample"].append((sample, f"specimen-{sample:06d}-{random.choice(METHODS)}", _time(at)))
            # A Pareto law: the median specimen has 10 runs, one in a hundred 400.
            wanted = min(5000, int(5 * random.paretovariate(1.05)))
            self.specimens.append(_Specimen(0, 0, wanted))
            self.specimens[-1].used = sample
        place = random.randrange(len(self.specimens))
        found = self.specimens[place]
        if found.area == 0 or random.random() < 0.1:
            found.area, found.plan = self.next("area"), self.next("plan")
            rows["area"].append((found.area, found.used, f"area-{found.area}", 1e6, _time(at)))
            text = f'{self.plan_parts[0]}"defocus_nm":{-found.plan / 64}{self.plan_parts[1]}'
            rows["plan"].append(
                (found.plan, sha256(text.encode()).hexdigest(), f"plan-{found.plan % 500}", text, _time(at))
            )
        found.left -= 1
        if found.left <= 0:
            self.specimens.pop(place)
        return found

    def _target(self, number: int, specimen: _Specimen, rows: Rows) -> None:
        target = self.next("target")
        skipped = self.random.random() < 0.02
        rows["target"].append(
            (target, self.night, self.position % RUNS_A_NIGHT, f"target-{target}", specimen.plan,
             "marked" if skipped else "done", None, self.random.choice(REASONS) if skipped else None, False, 90.0, 95.0,
             0, self.session)
        )  # fmt: skip

    def _readings(self, number: int, at: datetime, began: str, dwell: float, rows: Rows) -> None:
        random, snapshot = self.random, self.next("device_snapshot")
        rows["device_snapshot"].append((snapshot, number, "before", began))
        readings: tuple[tuple[str, float | None, str | None, str], ...] = (
            ("high_voltage_kv", random.choice(VOLTAGES), None, "kV"),
            ("defocus_nm", round(random.gauss(0, 20), 3), None, "nm"),
            ("probe_current_pa", round(random.lognormvariate(3, 0.5), 3), None, "pA"),
            ("camera_length_mm", random.choice((60.0, 106.4, 185.0)), None, "mm"),
            ("convergence_semi_angle_mrad", random.choice((1.5, 21.4, 30.0)), None, "mrad"),
            ("dwell_time_us", dwell, None, "us"),
            ("column_pressure_pa", round(random.lognormvariate(-11, 0.3), 12), None, "Pa"),
            ("mode", None, "EFSTEM" if random.random() < 0.001 else "STEM", ""),
        )
        for name, value, text, unit in readings:
            rows["reading"].append((self.next("reading"), snapshot, name, value, text, unit, "measured", began))

    def _dataset(self, number: int, index: int, name: str, purpose: str, rows: Rows) -> int:
        one = self.next("dataset")
        digest = sha256(f"{name}/{index}".encode()).hexdigest()
        rows["dataset"].append(
            (one, number, index, digest, 65536 * 192 * 192 * 2, 256, 256, 192, 192, "uint16", 65536, True, purpose)
        )
        path = f"/data/{name[1:7]}/{name}/pass{index + 1}.h5"
        rows["dataset_location"].append((self.next("dataset_location"), one, path, "storage-1"))
        return one

    def _calibrate(self, number: int, at: datetime, name: str, sets: int, rows: Rows) -> None:
        """The calibrations of a run, those measured anew in it that have had their time."""
        standing, random = self.standing[self.instrument], self.random
        for kind, serves in KINDS.items():
            if standing.left.get(kind, 0) <= 0:
                old, new = standing.ids.get(kind), self.next("calibration")
                if old is not None:
                    self.calibrations[old][9] = new
                standing.ids[kind] = new
                standing.left[kind] = BIG if new == 1 else 1 + int(random.expovariate(1 / serves))
                self._measure(kind, new, number, at, name, standing, rows)
            standing.left[kind] -= sets if standing.ids[kind] == 1 else 1
            stale = "it was valid until 2026-11-22 12:00 UTC" if random.random() < 0.001 else None
            rows["run_calibration"].append((self.next("run_calibration"), number, standing.ids[kind], kind, stale))

    def _measure(
        self, kind: str, new: int, number: int, at: datetime, name: str, standing: _Standing, rows: Rows
    ) -> None:
        mask = standing.ids.get("pixel_mask")
        rests = [] if mask in (None, new) else [mask]
        verdict = _choice(self.random, ("pass", "warn"), (0.9, 0.1))
        # A list: which later one supersedes it is written into it.
        self.calibrations[new] = [
            new, kind, "high_voltage_kv=300,camera_length_mm=106.4", self.instruments[self.instrument],
            '{"value":[95.5,96.1]}', "[0.01,0.01]", "px", _time(at), _time(at + timedelta(days=30)), None, number,
            verdict, 0.01, None if verdict == "pass" else "the residual is large", json.dumps(rests),
        ]  # fmt: skip
        for basis in rests:
            rows["calibration_basis"].append((self.next("calibration_basis"), new, basis))
        index = 1000 + len(KINDS) - list(KINDS).index(kind)
        dataset = self._dataset(number, index, name, "calibration", rows)
        rows["calibration_evidence"].append((self.next("calibration_evidence"), new, dataset))
        if self.random.random() < 0.005:
            self.late["calibration_withdrawal"].append(
                (self.next("calibration_withdrawal"), new, "ada", "the disk was cut by the aperture", _time(at))
            )
