"""Which files does a run have, and what was recorded of each?"""

from dataclasses import dataclass

from sqlalchemy import select
from sqlalchemy.orm import Session

from db.models import Dataset, DatasetLocation, Run
from db.rows import named
from db.vocabulary import Purpose


@dataclass(frozen=True)
class RecordedFile:
    """A dataset of a run as it was registered."""

    dataset_id: int
    run: str
    pass_index: int
    purpose: Purpose
    sha256: str
    size_bytes: int
    frames: int
    places: tuple[tuple[str, str], ...]
    """Host and path of each place where it lies."""

    def paths(self, host: str) -> tuple[str, ...]:
        """Its paths on a host."""
        return tuple(path for there, path in self.places if there == host)


def has_run(session: Session, *, name: str) -> bool:
    """Whether the database has a run of this name."""
    return session.scalar(select(Run.id).filter_by(name=name)) is not None


def require_run(session: Session, *, name: str) -> int:
    """Number of the run of this name; raises `BadInput` if there is none."""
    return named(session, Run, name, "`nightbeam runs` lists them").id


def files_of_run(session: Session, *, name: str) -> tuple[RecordedFile, ...]:
    """The datasets of a run in the order of their registration; raises `BadInput` if there is no such run."""
    run_id = require_run(session, name=name)
    datasets = session.scalars(select(Dataset).filter_by(run_id=run_id).order_by(Dataset.id)).all()
    places: dict[int, list[tuple[str, str]]] = {dataset.id: [] for dataset in datasets}
    for place in session.scalars(
        select(DatasetLocation)
        .join(Dataset, DatasetLocation.dataset_id == Dataset.id)
        .where(Dataset.run_id == run_id)
        .order_by(DatasetLocation.id)
    ):
        places[place.dataset_id].append((place.host, place.path))
    return tuple(
        RecordedFile(
            dataset_id=dataset.id,
            run=name,
            pass_index=dataset.pass_index,
            purpose=dataset.purpose,
            sha256=dataset.sha256,
            size_bytes=dataset.size_bytes,
            frames=dataset.frames,
            places=tuple(places[dataset.id]),
        )
        for dataset in datasets
    )
