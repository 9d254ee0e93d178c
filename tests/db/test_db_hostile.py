"""Names that are none in every question to the record (row F17): an answer or a refusal, and nothing changed."""

from collections.abc import Callable
from typing import Any

from db_world import World
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from db.engine import reader
from db.models import Base
from db.questions.affected import affected_by
from db.questions.calibrations import described, measured_in, withdrawn_by
from db.questions.cost import cost_of_night, cost_of_run
from db.questions.diff import diff_runs
from db.questions.files import files_of_run, has_run
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
from stem4d.errors import BadInput
from tests.hostile import HUGE, NAMES

Asks = Callable[[Session, Any], object]

BY_NAME: dict[str, Asks] = {
    "show": lambda session, name: show_run(session, name=name),
    "night": lambda session, name: night_story(session, name=name),
    "why": lambda session, name: why_stopped(session, night=name),
    "cost of a run": lambda session, name: cost_of_run(session, run=name),
    "cost of a night": lambda session, name: cost_of_night(session, night=name),
    "diff": lambda session, name: diff_runs(session, a=name, b=name),
    "lineage": lambda session, name: lineage(session, run=name),
    "search": lambda session, name: search(session, text=name),
    "dose": lambda session, name: sample_dose(session, sample=name),
    "measured": lambda session, name: measured_in(session, run=name),
    "withdrawn": lambda session, name: withdrawn_by(session, run=name),
    "has run": lambda session, name: has_run(session, name=name),
    "files": lambda session, name: files_of_run(session, name=name),
    "history": lambda session, name: calibration_history(session, instrument=name, kind=name),
    "runs by sample": lambda session, name: list_runs(session, sample=name),
    "runs by instrument": lambda session, name: list_runs(session, instrument=name),
    "runs by analysis": lambda session, name: list_runs(session, analysis=name),
    "runs by words": lambda session, name: list_runs(session, text=name),
    "runs by reading": lambda session, name: list_runs(session, readings=[reading_filter(name)]),
    "runs by text of a reading": lambda session, name: list_runs(session, readings=[reading_filter(f"mode={name}")]),
    "runs by state": lambda session, name: list_runs(session, state=name),
    "runs by verdict": lambda session, name: list_runs(session, verdict=name),
}
BY_NUMBER: dict[str, Asks] = {
    "affected": lambda session, number: affected_by(session, calibration_id=number),
    "affected, a page": lambda session, number: affected_by(session, calibration_id=1, after=number, limit=number),
    "described": lambda session, number: described(session, calibration_id=number),
    "lineage of a calibration": lambda session, number: lineage_of_calibration(session, calibration_id=number),
    "lineage": lambda session, number: lineage(session, run="r20261122-204139-0001", limit=number),
    "runs": lambda session, number: list_runs(session, before=number),
    "runs, a page": lambda session, number: list_runs(session, limit=number),
    "search": lambda session, number: search(session, text="a", before=number, limit=number),
    "nights": lambda session, number: list_nights(session, before=number, limit=number),
    "samples": lambda session, number: list_samples(session, before=number, limit=number),
    "software": lambda session, number: software_changes(session, before=number, limit=number),
    "history": lambda session, number: calibration_history(
        session, instrument="simulator", kind="descan", before=number, limit=number
    ),
}


def sizes(world: World) -> dict[str, int | None]:
    with reader(world.engine) as session:
        return {
            name: session.scalar(select(func.count()).select_from(table))
            for name, table in Base.metadata.tables.items()
        }


def wrong(world: World, questions: dict[str, Asks], values: dict[str, Any]) -> list[str]:
    """Questions that end otherwise than with an answer or a refusal in one line."""
    found = []
    for asked, ask in questions.items():
        for what, value in values.items():
            try:
                with reader(world.engine) as session:
                    ask(session, value)
            except BadInput as error:
                if not str(error).isprintable() or len(str(error)) > 2000:
                    found.append(f"{asked}, {what}: {str(error)[:200]!r}")
            except Exception as error:  # noqa: BLE001 - each is a fault, and all are told
                found.append(f"{asked}, {what}: {type(error).__name__}: {str(error)[:200]}")
    return found


def test_names_that_are_none(mended: World) -> None:
    before = sizes(mended)
    assert wrong(mended, BY_NAME, NAMES) == []
    assert sizes(mended) == before
    assert before["run"] == 2


def test_numbers_that_no_row_has(mended: World) -> None:
    assert wrong(mended, BY_NUMBER, {str(number): number for number in HUGE}) == []
