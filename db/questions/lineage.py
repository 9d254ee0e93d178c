"""From what did a run come, and what came of it? Plans, calibrations with their evidence, data, later runs."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

from sqlalchemy import Select, select
from sqlalchemy.orm import Session

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
        above = graph.take(_links(session, _ABOVE, above, limit), 0)
        below = graph.take(_links(session, _BELOW, below, limit), 1)
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


Step = tuple[str, str, Callable[[list[int]], Select[Any]], Callable[[Any], str]]
"""Kind on the near side, kind on the far side, (near, far, ...) rows of some near ones, and the role of such a row."""

_SAMPLE_OF = select(Run.id, Area.sample_id).join(Area, Run.area_id == Area.id)
_ABOVE: tuple[Step, ...] = (
    ("run", "plan", lambda ids: select(Run.id, Run.plan_id).where(Run.id.in_(ids)), lambda row: "plan"),
    ("run", "sample", lambda ids: _SAMPLE_OF.where(Run.id.in_(ids)), lambda row: "specimen"),
    (
        "run",
        "run",
        lambda ids: select(Run.id, Run.parent_id).where(Run.id.in_(ids), Run.parent_id.is_not(None)),
        lambda row: "attempt before",
    ),
    (
        "run",
        "calibration",
        lambda ids: (
            select(RunCalibration.run_id, RunCalibration.calibration_id, RunCalibration.role)
            .where(RunCalibration.run_id.in_(ids))
            .order_by(RunCalibration.id)
        ),
        lambda row: str(row[2]),
    ),
    (
        "calibration",
        "dataset",
        lambda ids: (
            select(CalibrationEvidence.calibration_id, CalibrationEvidence.dataset_id)
            .where(CalibrationEvidence.calibration_id.in_(ids))
            .order_by(CalibrationEvidence.id)
        ),
        lambda row: "evidence",
    ),
    (
        "calibration",
        "calibration",
        lambda ids: (
            select(CalibrationBasis.calibration_id, CalibrationBasis.basis_id)
            .where(CalibrationBasis.calibration_id.in_(ids))
            .order_by(CalibrationBasis.id)
        ),
        lambda row: "in force",
    ),
    (
        "calibration",
        "run",
        lambda ids: select(Calibration.id, Calibration.evidence_run_id).where(
            Calibration.id.in_(ids), Calibration.evidence_run_id.is_not(None)
        ),
        lambda row: "measured in",
    ),
    (
        "dataset",
        "dataset",
        lambda ids: select(DatasetParent.dataset_id, DatasetParent.parent_id).where(DatasetParent.dataset_id.in_(ids)),
        lambda row: "made from",
    ),
    (
        "dataset",
        "run",
        lambda ids: select(Dataset.id, Dataset.run_id).where(Dataset.id.in_(ids)),
        lambda row: "recorded in",
    ),
)
_BELOW: tuple[Step, ...] = (
    (
        "run",
        "dataset",
        lambda ids: select(Dataset.run_id, Dataset.id).where(Dataset.run_id.in_(ids)).order_by(Dataset.id),
        lambda row: "recorded in",
    ),
    (
        "run",
        "calibration",
        lambda ids: (
            select(Calibration.evidence_run_id, Calibration.id)
            .where(Calibration.evidence_run_id.in_(ids))
            .order_by(Calibration.id)
        ),
        lambda row: "measured in",
    ),
    (
        "run",
        "run",
        lambda ids: select(Run.parent_id, Run.id).where(Run.parent_id.in_(ids)).order_by(Run.id),
        lambda row: "attempt before",
    ),
    (
        "calibration",
        "run",
        lambda ids: (
            select(RunCalibration.calibration_id, RunCalibration.run_id, RunCalibration.role)
            .where(RunCalibration.calibration_id.in_(ids))
            .order_by(RunCalibration.run_id)
        ),
        lambda row: str(row[2]),
    ),
    (
        "calibration",
        "calibration",
        lambda ids: (
            select(CalibrationBasis.basis_id, CalibrationBasis.calibration_id)
            .where(CalibrationBasis.basis_id.in_(ids))
            .order_by(CalibrationBasis.id)
        ),
        lambda row: "in force",
    ),
    (
        "dataset",
        "dataset",
        lambda ids: (
            select(DatasetParent.parent_id, DatasetParent.dataset_id)
            .where(DatasetParent.parent_id.in_(ids))
            .order_by(DatasetParent.id)
        ),
        lambda row: "made from",
    ),
    (
        "dataset",
        "calibration",
        lambda ids: (
            select(CalibrationEvidence.dataset_id, CalibrationEvidence.calibration_id)
            .where(CalibrationEvidence.dataset_id.in_(ids))
            .order_by(CalibrationEvidence.id)
        ),
        lambda row: "evidence",
    ),
)


def _links(session: Session, steps: tuple[Step, ...], near: list[Key], limit: int) -> Iterator[Link]:
    for near_kind, far_kind, rows_of, role_of in steps:
        ids = [number for kind, number in near if kind == near_kind]
        if not ids:
            continue
        # One more than can be shown says that there is more.
        for row in session.execute(rows_of(ids).limit(limit + 1)):
            ends: tuple[Key, Key] = ((near_kind, row[0]), (far_kind, row[1]))
            before, after = ends if steps is _BELOW else ends[::-1]
            yield before, after, role_of(row)


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
