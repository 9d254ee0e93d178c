"""Registers a file of saved frames as a dataset of its run, made from the one that was never closed or is damaged."""

import socket
from dataclasses import dataclass

from db.engine import Engine, writer
from db.models import Run
from db.questions.files import RecordedFile, files_of_run, has_run
from db.record import add_event
from db.results import add_dataset, next_pass
from db.rows import named
from db.vocabulary import Purpose
from storage.salvage import Salvaged

RECOVERED_FROM = 1_000_000
"""Number of a run's first recovered dataset: beyond those of its passes and of its calibration scans."""


@dataclass(frozen=True)
class Registered:
    """Ids of the datasets."""

    run: str
    source_id: int
    recovered_id: int


def register_recovered(engine: Engine, saved: Salvaged) -> Registered | None:
    """Record both files and which was made from which; None where the run that the file names is not in the database.

    The state of the run stays what it is. The same again gives the same ids.
    """
    run, host = saved.findings.run, socket.gethostname()
    with writer(engine) as session:
        if not run or not has_run(session, name=run):
            return None
        run_id = named(session, Run, run, "").id
        known = files_of_run(session, name=run)
        purpose: Purpose = "calibration" if saved.findings.purpose == "calibration" else "acquisition"

        def added(path: str, sha256: str, size_bytes: int, frames: int, parents: tuple[int, ...] = ()) -> int:
            return add_dataset(
                session,
                run_id=run_id,
                pass_index=next_pass(session, run_id=run_id, first=RECOVERED_FROM),
                sha256=sha256,
                size_bytes=size_bytes,
                scan_shape=saved.findings.scan_shape,
                detector_shape=saved.findings.detector_shape,
                dtype=saved.findings.dtype,
                frames=frames,
                complete=False,
                purpose=purpose,
                path=path,
                host=host,
                parents=parents,
            )

        source, path = str(saved.source.absolute()), str(saved.path.absolute())
        source_id = _known(known, host, source, saved.source_sha256)
        if source_id is None:
            source_id = added(source, saved.source_sha256, saved.findings.bytes, saved.findings.recorded)
        recovered_id = _known(known, host, path, saved.sha256)
        if recovered_id is None:
            recovered_id = added(path, saved.sha256, saved.bytes, saved.frames, (source_id,))
            add_event(
                session,
                kind="recovered",
                message=f"{saved.frames} of {saved.findings.recorded} flushed frames of {saved.source.name} saved as "
                f"{saved.path.name}",
                run_id=run_id,
            )
    return Registered(run, source_id, recovered_id)


def _known(known: tuple[RecordedFile, ...], host: str, path: str, sha256: str) -> int | None:
    """The dataset that lies at a path; else one of the same content, wherever that was."""
    for one in known:
        if path in one.paths(host):
            return one.dataset_id
    return next((one.dataset_id for one in known if one.sha256 == sha256), None)
