"""One run: what was judged, its pictures, settings, calibrations, dose, files, and where it stands among others."""

import json
from pathlib import Path
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import FileResponse, HTMLResponse
from pydantic import ValidationError

from db.questions.files import require_run
from db.questions.lineage import lineage
from db.questions.show import show_run
from stem4d.errors import BadInput
from stem4d.plan import Plan
from web.report.facts import run_report
from web.report.render import run_values
from web.report.tables import Cell, Table, label_and_unit, plain
from web.view.graph import lineage_svg
from web.view.pages import Asked, address, page, settings_of
from web.view.pictures import pictures_of, thumbnail

router = APIRouter()
SHOWN_NODES = 60
"""Of a lineage on the page of a run; its own page has more."""


@router.get("/runs/{name}")
def run(request: Request, session: Asked, name: str) -> HTMLResponse:
    """Everything of one run."""
    facts = show_run(session, name=name)
    report = run_report(facts, _plan(facts), (), "")
    path = _report_of(request, session, name)
    return page(
        request,
        "run_view.html",
        **run_values(report),
        facts=facts,
        settings=_settings(facts),
        pictures=list(enumerate(pictures_of(path))),
        lineage=lineage(session, run=name, limit=SHOWN_NODES),
        has_report=path.is_file(),
    )


@router.get("/runs/{name}/report")
def report(request: Request, session: Asked, name: str) -> Response:
    """The page that was written when the run ended: it needs nothing else, and stays as it was."""
    path = _report_of(request, session, name)
    if path.is_symlink() or not path.is_file():
        raise BadInput(field="run", value=name, limit="it has no report in this home")
    return FileResponse(path, media_type="text/html")


@router.get("/runs/{name}/pictures/{number}")
def picture(request: Request, session: Asked, name: str, number: int) -> Response:
    """A picture of the report of a run."""
    found = pictures_of(_report_of(request, session, name))
    if not 0 <= number < len(found):
        raise BadInput(field="picture", value=number, limit=f"the report of {name} has {len(found)}")
    return Response(found[number].data, media_type="image/png", headers={"Cache-Control": "private, max-age=3600"})


@router.get("/runs/{name}/thumbnail.png")
def small(session: Asked, name: str) -> Response:
    """The virtual image of a run's first pass, small."""
    data = thumbnail(session, name)
    return Response(data, media_type="image/png", headers={"Cache-Control": "private, max-age=600"})


@router.get("/runs/{name}/lineage.svg")
def lineage_picture(session: Asked, name: str, limit: int = SHOWN_NODES) -> Response:
    """The lineage of a run, drawn."""
    return Response(lineage_svg(lineage(session, run=name, limit=limit), node_page), media_type="image/svg+xml")


@router.get("/runs/{name}/lineage")
def lineage_page(request: Request, session: Asked, name: str) -> HTMLResponse:
    """The lineage of a run, drawn and in words."""
    facts = lineage(session, run=name, limit=200)
    labels = {one["key"]: (one["label"], node_page(one)) for one in facts["nodes"]}
    return page(request, "lineage_view.html", name=name, lineage=facts, labels=labels)


def node_page(node: dict[str, Any]) -> str | None:
    """The address of what a node of a lineage stands for, None where it has no page."""
    kind, _, name = node["key"].partition(":")
    return address(kind, name) if kind in ("run", "calibration", "sample") else None


def _report_of(request: Request, session: Asked, name: str) -> Path:
    """Where the report of a run lies; only a name that the record knows leads anywhere."""
    require_run(session, name=name)
    return settings_of(request).reports_folder / f"{name}.html"


def _plan(facts: dict[str, Any]) -> Plan | None:
    """The plan of a run; None where it was written for another version, which this one cannot read."""
    try:
        return Plan.model_validate_json(json.dumps(facts["plan"]["document"]))
    except ValidationError:
        return None


def _settings(facts: dict[str, Any]) -> Table:
    """Every setting before and after the exposure."""
    sides = {
        phase: {one["name"]: one for one in snapshot["readings"]} for phase, snapshot in facts["snapshots"].items()
    }
    names = dict.fromkeys(name for side in sides.values() for name in side)

    def said(phase: str, name: str) -> str:
        one = sides.get(phase, {}).get(name)
        return "–" if one is None else plain(one["value"], one["unit"])

    def changed(name: str) -> str:
        both = [sides[phase][name]["value"] for phase in ("before", "after") if name in sides.get(phase, {})]
        return "–" if len(both) < 2 else "changed" if both[0] != both[1] else "same"

    def source(name: str) -> str:
        return str(next(side[name]["source"] for side in sides.values() if name in side))

    rows = tuple(
        (
            Cell(label_and_unit(name)[0]),
            Cell(said("before", name), figure=True),
            Cell(said("after", name), figure=True),
            Cell(changed(name)),
            Cell(source(name)),
        )
        for name in names
    )
    return Table("Settings of the instrument", ("Setting", "Before", "After", "", "As"), rows)
