"""Two runs side by side: what differs, and what was judged of both."""

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse

from db.questions.diff import diff_runs
from stem4d.errors import BadInput
from web.report.tables import Cell, Table, chip, label_and_unit, metric, plain
from web.view.pages import Asked, page

router = APIRouter()
_PARTS = {
    "run": "Run",
    "plan": "Plan",
    "settings": "Settings before the exposure",
    "calibrations": "Calibrations",
    "software": "Software",
}


@router.get("/compare")
def compare(request: Request, session: Asked) -> HTMLResponse:
    """What differs between two runs: ``a`` and ``b``, or the two that were ticked in a list."""
    given = request.query_params
    names = given.getlist("run") or [given[name] for name in ("a", "b") if given.get(name)]
    if len(names) != 2:
        raise BadInput(field="runs to compare", value=len(names), limit="two", remedy="Tick two runs in the list")
    a, b = names
    facts = diff_runs(session, a=a, b=b)
    tables = [_table(title, a, b, facts[part]) for part, title in _PARTS.items() if facts[part]]
    same = [title.lower() for part, title in _PARTS.items() if not facts[part]]
    return page(request, "compare.html", a=a, b=b, tables=tables, quality=_quality(a, b, facts["quality"]), same=same)


def _table(title: str, a: str, b: str, rows: list[dict[str, object]]) -> Table:
    return Table(
        title,
        ("What", a, b),
        tuple(
            (Cell(_label(str(one["name"]))), *(_cell(one[side], str(one["unit"])) for side in ("a", "b")))
            for one in rows
        ),
    )


def _label(name: str) -> str:
    """A setting in words, after the part of the plan that it stands in."""
    place, dot, last = name.rpartition(".")
    return f"{place.replace('_', ' ')}{dot and ': '}{label_and_unit(last)[0]}"


def _cell(value: object, unit: str) -> Cell:
    if value is None:
        return Cell("–")
    if isinstance(value, dict):
        return Cell(links=((f"number {value['id']}, {value['measured_at'][:16]}", f"/calibrations/{value['id']}"),))
    return Cell(plain(value, unit))


def _quality(a: str, b: str, rows: list[dict[str, object]]) -> Table:
    def side(one: dict[str, object], name: str) -> tuple[Cell, Cell]:
        verdict = one[f"verdict_{name}"]
        if verdict is None:
            return Cell("–"), Cell("–")
        return Cell(chip=chip(str(verdict))), Cell(plain(one[name], str(one["unit"])), figure=True)

    told = tuple((Cell(metric(str(one["name"]))), *side(one, "a"), *side(one, "b")) for one in rows)
    return Table("Quality: figures that differ", ("Quantity", f"Verdict {a}", "Figure", f"Verdict {b}", "Figure"), told)
