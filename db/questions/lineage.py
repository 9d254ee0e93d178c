"""From what did a run come, and what came of it? Plans, calibrations with their evidence, data, later runs."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

from sqlalchemy import ColumnElement, Executable, Row, Select, bindparam, literal_column, select, union_all
from sqlalchemy.orm import InstrumentedAttribute, Session

from db.models import (
    Area,
    Calibration,
    CalibrationBasis,
    CalibrationEvidence,
    CalibrationWithdrawal,
    Dataset,
    DatasetParent,
    Plan,
    Run,
    RunCalibration,
    Sample,
)
from db.questions.among import among
from db.questions.planning import plan_once
from db.rows import existing, named
from stem4d.errors import BadInput

MOST_NODES = 1000
Key = tuple[str, int]
"""Table and row."""
Link = tuple[Key, Key, str]
"""What came before, what came after, and as what it served."""
Column = InstrumentedAttribute[Any]


def lineage(session: Session, *, run: str, limit: int = 100) -> dict[str, Any]:
    """Ancestors and descendants of a run, nearest first.

    Returns
    -------
    dict
        `root`, `nodes` (``{"key", "kind", "label", "state"}``, keys as ``run:NAME``, ``dataset:ID``,
        ``calibration:ID``, ``plan:SHA256``, ``sample:NAME``), `edges` (``{"from", "to", "role"}``, from what came
        before to what came after) and `truncated`: whether there is more than ``limit`` nodes show.

    Raises
    ------
    BadInput
        For an unknown run, or a limit beyond 1 to 1000.
    """
    return _told(session, ("run", named(session, Run, run, "`nightbeam runs` lists them").id), limit)


def lineage_of_calibration(session: Session, *, calibration_id: int, limit: int = 100) -> dict[str, Any]:
    """As `lineage`, of a calibration by its number."""
    return _told(session, ("calibration", existing(session, Calibration, calibration_id).id), limit)


@dataclass
class _Graph:
    limit: int
    nodes: dict[Key, None] = field(default_factory=dict)
    links: dict[Link, None] = field(default_factory=dict)
    truncated: bool = False

    def take(self, links: Iterable[Link], end: Literal[0, 1]) -> list[Key]:
        """Add links; gives the nodes at their ``end`` (0 or 1) that are new."""
        new = []
        for link in links:
            if link[end] not in self.nodes:
                if len(self.nodes) >= self.limit:
                    self.truncated = True
                    continue
                self.nodes[link[end]] = None
                new.append(link[end])
            self.links[link] = None
        return new


def _told(session: Session, root: Key, limit: int) -> dict[str, Any]:
    if not 1 <= limit <= MOST_NODES:
        raise BadInput(field="limit", value=limit, limit=f"1 to {MOST_NODES} nodes")
    plan_once(session)
    graph = _Graph(limit, {root: None})
    # Both ways level by level, so that a limit cuts what is farthest; never up and down again: that is everything.
    above, below = [root], [root]
    while above or below:
        above = graph.take(_links(session, above, limit, downwards=False), 0)
        below = graph.take(_links(session, below, limit, downwards=True), 1)
    names = _named(session, graph.nodes)
    return {
        "root": names[root]["key"],
        "nodes": [names[key] for key in graph.nodes],
        "edges": [
            {"from": names[before]["key"], "to": names[after]["key"], "role": role}
            for before, after, role in graph.links
        ],
        "truncated": graph.truncated,
    }


@dataclass(frozen=True)
class _Relation:
    """Pairs of rows, what came before and what came after, and as what the first served."""

    before: tuple[str, Column]
    after: tuple[str, Column]
    role: Column | str
    where: tuple[ColumnElement[bool], ...] = ()
    downwards: bool = True
    """Whether what came after is asked for: of a plan or a specimen it would be everything ever made of it."""


_AREA_OF_RUN = Run.__table__.c.area_id == Area.__table__.c.id
_RELATIONS = (
    _Relation(("plan", Run.plan_id), ("run", Run.id), "plan", downwards=False),
    _Relation(("sample", Area.sample_id), ("run", Run.id), "specimen", (_AREA_OF_RUN,), downwards=False),
    _Relation(("run", Run.parent_id), ("run", Run.id), "attempt before"),
    _Relation(("run", Dataset.run_id), ("dataset", Dataset.id), "recorded in"),
    _Relation(("run", Calibration.evidence_run_id), ("calibration", Calibration.id), "measured in"),
    _Relation(("calibration", RunCalibration.calibration_id), ("run", RunCalibration.run_id), RunCalibration.role),
    _Relation(("calibration", CalibrationBasis.basis_id), ("calibration", CalibrationBasis.calibration_id), "in force"),
    _Relation(
        ("dataset", CalibrationEvidence.dataset_id), ("calibration", CalibrationEvidence.calibration_id), "evidence"
    ),
    _Relation(("dataset", DatasetParent.parent_id), ("dataset", DatasetParent.dataset_id), "made from"),
)


def _step(number: int, relation: _Relation, downwards: bool) -> Select[Any]:
    """One relation of nodes of one kind: its number, what was known, what was asked, and the role."""
    near, far = _ends(relation, downwards)
    known, asked = _column(near[1]), _column(far[1])
    step: ColumnElement[int] = literal_column(str(number))
    role = literal_column(f"'{relation.role}'") if isinstance(relation.role, str) else _column(relation.role)
    wanted = (
        select(step.label("step"), known.label("known"), asked.label("asked"), role.label("role"))
        .where(among(known, "near"), asked.is_not(None))
        .order_by(asked, known)
        # One more than can be shown says that there is more.
        .limit(bindparam("most"))
    )
    return select(wanted.where(*relation.where).subquery())


def _ends(relation: _Relation, downwards: bool) -> tuple[tuple[str, Column], tuple[str, Column]]:
    """The near and the far end of a relation."""
    return (relation.before, relation.after) if downwards else (relation.after, relation.before)


def _column(attribute: Column) -> Any:
    """The column of the table alone: statements of such take half the time."""
    return attribute.property.columns[0]


def _steps(kind: str, downwards: bool) -> Executable:
    """All relations of nodes of a kind in one statement, put together once: some for each level would take some ms."""
    parts = [
        _step(number, relation, downwards)
        for number, relation in enumerate(_RELATIONS)
        if _ends(relation, downwards)[0][0] == kind and (relation.downwards or not downwards)
    ]
    return union_all(*parts)


_STEPS = {(kind, way): _steps(kind, way) for kind in ("run", "dataset", "calibration") for way in (False, True)}


def _links(session: Session, near: list[Key], limit: int, *, downwards: bool) -> Iterator[Link]:
    """What came before nodes, or after them, in the order of relations and rows."""
    found: list[Row[Any]] = []
    for (kind, way), steps in _STEPS.items():
        ids = [number for one, number in near if one == kind]
        if ids and way == downwards:
            found += session.execute(steps, {"near": ids, "most": limit + 1})
    for step, known, asked, role in sorted(found, key=lambda row: (row.step, row.asked, row.known)):
        before, after = (known, asked) if downwards else (asked, known)
        yield (_RELATIONS[step].before[0], before), (_RELATIONS[step].after[0], after), role


def _named(session: Session, keys: Iterable[Key]) -> dict[Key, dict[str, Any]]:
    """What is shown of nodes."""
    by_kind: dict[str, list[int]] = {}
    for kind, number in keys:
        by_kind.setdefault(kind, []).append(number)
    told: dict[Key, dict[str, Any]] = {}
    for kind, ids in by_kind.items():
        wanted, label = _LABELS[kind]
        for row in session.execute(wanted, {"ids": ids}):
            key, text, state = label(row)
            told[kind, row.id] = {"key": f"{kind}:{key}", "kind": kind, "label": text, "state": state}
    return told


Label = tuple[object, str, str | None]
"""What a node is known by, what is written beside it, and its state."""


def _data(row: Row[Any]) -> Label:
    what = f"pass {row.pass_index + 1}" if row.purpose == "acquisition" else f"{row.purpose} scan {row.pass_index + 1}"
    return row.id, f"data {row.id}, {what}", "complete" if row.complete else "partial"


def _calibration(row: Row[Any]) -> Label:
    return row.id, f"{row.kind} {row.id}", row.verdict if row.gone is None else "withdrawn"


_run, _plan, _sample, _set, _measured = (table.__table__.c for table in (Run, Plan, Sample, Dataset, Calibration))
_gone = CalibrationWithdrawal.__table__.c
_LABELS: dict[str, tuple[Select[Any], Callable[[Row[Any]], Label]]] = {
    "run": (
        select(_run.id, _run.name, _run.state).where(among(_run.id, "ids")),
        lambda row: (row.name, f"run {row.name}", row.state),
    ),
    "plan": (
        select(_plan.id, _plan.name, _plan.sha256).where(among(_plan.id, "ids")),
        lambda row: (row.sha256, f"plan {row.name}", None),
    ),
    "sample": (
        select(_sample.id, _sample.name).where(among(_sample.id, "ids")),
        lambda row: (row.name, f"specimen {row.name}", None),
    ),
    "dataset": (select(_set.id, _set.purpose, _set.pass_index, _set.complete).where(among(_set.id, "ids")), _data),
    "calibration": (
        select(_measured.id, _measured.kind, _measured.verdict, _gone.id.label("gone"))
        .outerjoin(CalibrationWithdrawal.__table__, _gone.calibration_id == _measured.id)
        .where(among(_measured.id, "ids")),
        _calibration,
    ),
}
