"""From what did a run come, and what came of it? Plans, calibrations with their evidence, data, later runs."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

from sqlalchemy import ColumnElement, literal, select
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
    where: ColumnElement[bool] | None = None
    downwards: bool = True
    """Whether what came after is asked for: of a plan or a specimen it would be everything ever made of it."""


_RELATIONS = (
    _Relation(("plan", Run.plan_id), ("run", Run.id), "plan", downwards=False),
    _Relation(("sample", Area.sample_id), ("run", Run.id), "specimen", Run.area_id == Area.id, downwards=False),
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


def _links(session: Session, near: list[Key], limit: int, *, downwards: bool) -> Iterator[Link]:
    for relation in _RELATIONS:
        (near_kind, known), (_, asked) = _ends(relation, downwards)
        ids = [number for kind, number in near if kind == near_kind]
        if not ids or (downwards and not relation.downwards):
            continue
        role = literal(relation.role) if isinstance(relation.role, str) else relation.role
        wanted = select(relation.before[1], relation.after[1], role).where(known.in_(ids), asked.is_not(None))
        if relation.where is not None:
            wanted = wanted.where(relation.where)
        # One more than can be shown says that there is more.
        for before, after, served in session.execute(wanted.order_by(asked).limit(limit + 1)):
            yield (relation.before[0], before), (relation.after[0], after), served


def _ends(relation: _Relation, downwards: bool) -> tuple[tuple[str, Column], tuple[str, Column]]:
    """The near and the far end of a relation."""
    return (relation.before, relation.after) if downwards else (relation.after, relation.before)


def _named(session: Session, keys: Iterable[Key]) -> dict[Key, dict[str, Any]]:
    """What is shown of nodes."""
    by_kind: dict[str, list[int]] = {}
    for kind, number in keys:
        by_kind.setdefault(kind, []).append(number)
    told: dict[Key, dict[str, Any]] = {}
    for kind, ids in by_kind.items():
        for number, key, label, state in _LABELS[kind](session, ids):
            told[kind, number] = {"key": f"{kind}:{key}", "kind": kind, "label": label, "state": state}
    return told


Label = tuple[int, object, str, str | None]


def _runs(session: Session, ids: list[int]) -> Iterator[Label]:
    for number, name, state in session.execute(select(Run.id, Run.name, Run.state).where(Run.id.in_(ids))):
        yield number, name, f"run {name}", state


def _plans(session: Session, ids: list[int]) -> Iterator[Label]:
    for number, name, sha256 in session.execute(select(Plan.id, Plan.name, Plan.sha256).where(Plan.id.in_(ids))):
        yield number, sha256, f"plan {name}", None


def _samples(session: Session, ids: list[int]) -> Iterator[Label]:
    for number, name in session.execute(select(Sample.id, Sample.name).where(Sample.id.in_(ids))):
        yield number, name, f"specimen {name}", None


def _datasets(session: Session, ids: list[int]) -> Iterator[Label]:
    wanted = select(Dataset.id, Dataset.purpose, Dataset.pass_index, Dataset.complete).where(Dataset.id.in_(ids))
    for number, purpose, index, complete in session.execute(wanted):
        what = f"pass {index + 1}" if purpose == "acquisition" else f"{purpose} scan {index + 1}"
        yield number, number, f"data {number}, {what}", "complete" if complete else "partial"


def _calibrations(session: Session, ids: list[int]) -> Iterator[Label]:
    wanted = (
        select(Calibration.id, Calibration.kind, Calibration.verdict, CalibrationWithdrawal.id)
        .outerjoin(CalibrationWithdrawal, CalibrationWithdrawal.calibration_id == Calibration.id)
        .where(Calibration.id.in_(ids))
    )
    for number, kind, verdict, gone in session.execute(wanted):
        yield number, number, f"{kind} {number}", "withdrawn" if gone is not None else verdict


_LABELS: dict[str, Callable[[Session, list[int]], Iterator[Label]]] = {
    "run": _runs,
    "plan": _plans,
    "sample": _samples,
    "dataset": _datasets,
    "calibration": _calibrations,
}
