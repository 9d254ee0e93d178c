"""Builds the pages from the database and the files and writes them: a report can be made again at any time."""

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from db.engine import reader
from db.questions.night import night_story
from db.questions.show import show_run
from stem4d.catalogue import CATALOGUE
from stem4d.detector import DetectorFacts
from stem4d.errors import NightbeamError
from stem4d.instrument import InstrumentFacts
from stem4d.plan import Plan
from storage.disk import replace_text
from web.report.evidence_run import run_evidence
from web.report.facts import Facts, dose_accounts, night_report, run_report, seconds_between
from web.report.figures.bars import Span, dose_bar, time_line
from web.report.figures.canvas import as_picture
from web.report.outcomes import outcome_plates
from web.report.plates import Calibrated, Judged, Pass, run_plates
from web.report.render import render_night, render_run
from web.report.values import EvidenceGroup, Plate

if TYPE_CHECKING:
    from db.engine import Engine


MOST_SPANS = 60
"""Targets that a time line can show; the table has all of them."""


def write_run_report(engine: "Engine", run_name: str, folder: Path, instrument: InstrumentFacts | None = None) -> Path:
    """Write the page of a run as ``RUN.html`` in a folder that exists; raises `BadInput` for an unknown run.

    ``instrument`` is what its file says of it: the evidence for counting rates takes its detectors, or
    else what the catalogue knows of them.
    """
    with reader(engine) as session:
        facts = show_run(session, name=run_name)
    plan = plan_of(facts)
    name = plan.detector.name
    pictures = _pictures(facts, plan, instrument.detector(name) if instrument else CATALOGUE.get(name))
    report = run_report(
        facts, plan, (*outcome_plates(facts["analyses"]), *pictures.plates, *_dose_plate(facts)), pictures.missing
    )
    page = render_run(replace(report, evidence=pictures.evidence))
    return written(folder / f"{facts['name']}.html", page)


def write_night_report(engine: "Engine", night_name: str | None, folder: Path) -> Path:
    """Write the page of a night (the latest without a name) as ``NIGHT.html``; links the runs' pages beside it."""
    with reader(engine) as session:
        night = night_story(session, name=night_name)
        names = [run["name"] for target in night["targets"] for run in target["runs"]]
        runs = {name: show_run(session, name=name) for name in names}
    pages = frozenset(name for name in names if (folder / f"{name}.html").is_file())
    page = render_night(night_report(night, runs, pages, _night_plates(night)))
    return written(folder / f"{night['name']}.html", page)


def plan_of(facts: Facts) -> Plan:
    """The plan of a run as it was registered."""
    return Plan.model_validate_json(json.dumps(facts["plan"]["document"]))


@dataclass(frozen=True)
class _Pictures:
    """The pictures of a run's files, and why there are none where that is so."""

    plates: tuple[Plate, ...] = ()
    evidence: tuple[EvidenceGroup, ...] = ()
    missing: str = ""


def _pictures(facts: Facts, plan: Plan, detector: DetectorFacts | None) -> _Pictures:
    passes = tuple(
        Pass(Path(one["locations"][0]["path"]), one["pass_index"])
        for one in facts["datasets"]
        if one["locations"] and one["purpose"] == "acquisition"
    )
    if not passes:
        return _Pictures(missing="There are no pictures: no frame was recorded.")
    try:
        plates = run_plates(plan, passes, _calibrated(facts, passes[0].path), _judged(facts))
        return _Pictures(plates, run_evidence(facts, plan, passes, detector))
    except (NightbeamError, OSError) as error:
        # A report without pictures is worth more than none: the file may lie on another machine.
        return _Pictures(missing=f"There are no pictures, as the data cannot be read: {error}")


def _calibrated(facts: Facts, path: Path) -> Calibrated:
    by_kind: dict[str, Any] = {one["kind"]: one for one in facts["calibrations"]}
    # Before 0.2.0 the centre was recorded as the kind "disk".
    disk = by_kind.get("centre") or by_kind.get("disk")
    mask, descan = (by_kind.get(kind) for kind in ("pixel_mask", "descan"))
    return Calibrated(
        centre_px=tuple(disk["value"]["centre_px"]) if disk else None,
        bad_pixels=tuple((y, x) for y, x in mask["value"]["bad_pixels"]) if mask else (),
        vacuum_folder=path.parent.parent / descan["evidence_run"] if descan and descan["evidence_run"] else None,
        mrad_per_pixel=_figure(by_kind, "mrad_per_pixel", "mrad_per_pixel"),
        convergence_semi_angle_mrad=_figure(by_kind, "convergence_semi_angle", "convergence_semi_angle_mrad"),
        step_ratio=_step_ratio(by_kind.get("scan_step")),
    )


def _figure(by_kind: dict[str, Any], kind: str, name: str) -> float | None:
    found = by_kind.get(kind)
    return None if found is None else found["value"].get(name)


def _step_ratio(found: dict[str, Any] | None) -> tuple[float, float] | None:
    value = {} if found is None else found["value"]
    nominal, y, x = (value.get(name) for name in ("nominal_step_nm", "step_y_nm", "step_x_nm"))
    return (y / nominal, x / nominal) if nominal and y and x else None


def _judged(facts: Facts) -> Judged:
    final = [one for one in facts["quality"] if one["stage"] == "final"]
    descan = [one["limit_value"] for one in final if one["metric"] == "descan.range"]
    drift: dict[str, Any] = next((one for one in final if one["metric"] == "drift.rate"), {})
    return Judged(
        # One figure, a limit for each analysis: the strictest is the one to be seen against.
        descan_limit_px=min((limit for limit in descan if limit is not None), default=None),
        drift_nm_per_min=drift.get("value"),
        drift_limit_nm_per_min=drift.get("limit_value"),
    )


def _dose_plate(facts: Facts) -> tuple[Plate, ...]:
    if not facts["exposures"]:
        return ()
    drawings = [
        dose_bar(one.others_e_per_a2, one.delivered_e_per_a2, one.budget_e_per_a2, one.area)
        for one in dose_accounts([facts])
    ]
    return (Plate("Dose", tuple(as_picture(each) for each in drawings)),)


def _night_plates(night: Facts) -> tuple[Plate, ...]:
    began = night["started"]
    spans = tuple(
        Span(
            target["name"],
            target["state"],
            seconds_between(began, target["runs"][0]["started"]),
            seconds_between(began, target["runs"][-1]["ended"] or target["runs"][-1]["started"]),
        )
        for target in night["targets"]
        if target["runs"]
    )
    if not 0 < len(spans) <= MOST_SPANS:
        return ()
    return (Plate("Time line", (as_picture(time_line(spans)),)),)


def written(path: Path, page: str) -> Path:
    """Replace the page at once: who reads it sees the old one or the new one."""
    replace_text(path, page)
    return path
