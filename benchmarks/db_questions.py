"""The questions that are timed, as commands and pages ask them."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy.orm import Session

from db.questions.affected import affected_by
from db.questions.cost import cost_of_night, cost_of_run
from db.questions.diff import diff_runs
from db.questions.files import files_of_run
from db.questions.lineage import lineage, lineage_of_calibration
from db.questions.lists import calibration_history, list_nights, list_samples
from db.questions.night import night_story
from db.questions.run_filters import reading_filter
from db.questions.runs import list_runs
from db.questions.sample_dose import sample_dose
from db.questions.search import search
from db.questions.show import show_run
from db.questions.software import software_changes
from db.questions.stopped import why_stopped


@dataclass(frozen=True)
class Subject:
    """What a question is about: a run and what belongs to it."""

    number: int
    id: int
    run: str
    sample: str
    night: str
    instrument: str
    started: datetime
    calibration: int

    def one_of(self, *values: Any) -> Any:
        """One of some values, in turn."""
        return values[self.number % len(values)]


@dataclass(frozen=True)
class Question:
    """One question to the record."""

    name: str
    ask: Callable[[Session, Subject], object]


def _runs(**filters: Callable[[Subject], Any]) -> Callable[[Session, Subject], object]:
    return lambda session, subject: list_runs(session, **{name: value(subject) for name, value in filters.items()})


def _readings(*asked: str) -> Callable[[Session, Subject], object]:
    return _runs(readings=lambda _one: [reading_filter(each) for each in asked])


QUESTIONS = (
    Question("runs", _runs()),
    Question("runs, a page in the middle", _runs(before=lambda one: one.id)),
    Question("runs --sample", _runs(sample=lambda one: one.sample)),
    Question("runs --state", _runs(state=lambda one: one.one_of("done", "failed", "crashed", "refused"))),
    Question("runs --verdict", _runs(verdict=lambda one: one.one_of("pass", "warn", "fail", "not_measurable"))),
    Question("runs --instrument", _runs(instrument=lambda one: one.instrument)),
    Question("runs --since", _runs(since=lambda one: one.started)),
    Question("runs --until", _runs(until=lambda one: one.started)),
    Question(
        "runs --since --until, a week",
        _runs(since=lambda one: one.started, until=lambda one: one.started + timedelta(days=7)),
    ),
    Question("runs --sample --verdict", _runs(sample=lambda one: one.sample, verdict=lambda one: one.one_of("fail"))),
    Question("runs --analysis METHOD", _runs(analysis=lambda one: one.one_of("com", "ptychography", "strain", "adf"))),
    Question(
        "runs --analysis METHOD:VERDICT",
        _runs(analysis=lambda one: one.one_of("com:doubtful", "strain:not_possible", "adf:not_possible")),
    ),
    Question(
        "runs --text, common words", _runs(text=lambda one: one.one_of("vacuum gauge", "saturation", "detector answer"))
    ),
    Question("runs --text, a rare word", _runs(text=lambda one: f"case {1000 + one.number}")),
    Question("runs --reading, most runs have it", _readings("high_voltage_kv>=200")),
    Question("runs --reading, one in twenty", _readings("probe_current_pa>=46")),
    Question("runs --reading, one in a thousand", _readings("mode=EFSTEM")),
    Question("runs --reading, one in ten thousand", _readings("defocus_nm>=76")),
    Question("runs --reading, two of them", _readings("high_voltage_kv=80", "probe_current_pa>=46")),
    Question("runs --dose-below", _runs(dose_below_e_per_a2=lambda one: one.one_of(2.0, 100.0, 2000.0))),
    Question("runs --dose-above", _runs(dose_above_e_per_a2=lambda one: one.one_of(2.0, 2000.0, 6000.0))),
    Question("runs --stale", _runs(stale=lambda one: True)),
    Question("show", lambda session, one: show_run(session, name=one.run)),
    Question("show NIGHT", lambda session, one: night_story(session, name=one.night)),
    Question("diff", lambda session, one: diff_runs(session, a=one.run, b=_another(session, one))),
    Question("lineage", lambda session, one: lineage(session, run=one.run)),
    Question(
        "lineage of a calibration", lambda session, one: lineage_of_calibration(session, calibration_id=one.calibration)
    ),
    Question("lineage, 10 000 data sets below", lambda session, one: lineage_of_calibration(session, calibration_id=1)),
    Question("affected", lambda session, one: affected_by(session, calibration_id=one.calibration)),
    Question("affected, 10 000 data sets, first page", lambda session, one: affected_by(session, calibration_id=1)),
    Question(
        "affected, 10 000 data sets, a page in the middle",
        lambda session, one: affected_by(session, calibration_id=1, after=5000),
    ),
    Question(
        "search, common words", lambda session, one: search(session, text=one.one_of("vacuum gauge", "ptychography"))
    ),
    Question("search, a rare word", lambda session, one: search(session, text=f"case {1000 + one.number}")),
    Question("search, a beginning", lambda session, one: search(session, text=one.run[:9])),
    Question("dose", lambda session, one: sample_dose(session, sample=one.sample)),
    Question("why", lambda session, one: why_stopped(session, night=one.night)),
    Question("cost NIGHT", lambda session, one: cost_of_night(session, night=one.night)),
    Question("cost RUN", lambda session, one: cost_of_run(session, run=one.run)),
    Question("software", lambda session, one: software_changes(session)),
    Question(
        "calibrations over time",
        lambda session, one: calibration_history(session, instrument=one.instrument, kind="centre"),
    ),
    Question("nights", lambda session, one: list_nights(session)),
    Question("samples", lambda session, one: list_samples(session)),
    Question("files of a run (verify)", lambda session, one: files_of_run(session, name=one.run)),
)


def _another(session: Session, one: Subject) -> str:
    """A run to compare with: the one before it on the same specimen, as people ask."""
    page = list_runs(session, sample=one.sample, limit=1, before=one.id)
    return page.runs[0].name if page.runs else one.run
