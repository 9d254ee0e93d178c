"""Analyses recorded data again or for the first time: the passes of a run, or any file with a word on its geometry."""

import socket
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from db.engine import Engine, reader, writer
from db.questions.files import files_of_run, require_run
from db.questions.show import show_run
from db.results import add_analysis
from stem4d.analyse.known import Known, given_of
from stem4d.analyse.methods import METHODS
from stem4d.calibrate.disk import find_disk
from stem4d.errors import BadInput
from stem4d.plan import Plan
from storage.disk import sha256_of_file
from storage.documents import changed, load_model, validate
from storage.read import open_frames
from storage.rows import FrameRows
from storage.settings import Settings
from tasks.given import given_of_run
from tasks.parts import Job
from tasks.results import Made, result_of
from tasks.spread import cluster_of


@dataclass(frozen=True)
class Wanted:
    """What a person asks for."""

    method: str
    changes: tuple[str, ...] = ()
    """Options as ``NAME=VALUE``."""
    calibration: Path | None = None
    again: bool = False


def analyse_run(settings: Settings, engine: Engine, run: str, wanted: Wanted) -> list[Made]:
    """Analyse each pass of a run that lies on this machine, and record what came of it with the run."""
    if wanted.calibration:
        limit = "of a run the calibrations are known"
        remedy = "Leave it out, or name the file of the pass instead of the run"
        raise BadInput(field="--calibration", value=str(wanted.calibration), limit=limit, remedy=remedy)
    with reader(engine) as session:
        facts = show_run(session, name=run)
        files = [one for one in files_of_run(session, name=run) if one.purpose == "acquisition"]
    here = [(one, Path(paths[0])) for one in files if (paths := one.paths(socket.gethostname()))]
    if len(here) < len(files) or not files:
        limit = f"{len(here)} of its {len(files)} passes lie on {socket.gethostname()}"
        raise BadInput(field="run", value=run, limit=limit, remedy="Ask where its data are: nightbeam show RUN")
    plan = Plan.model_validate(facts["plan"]["document"], strict=False)
    given = given_of_run(plan, {one["kind"]: one for one in facts["calibrations"]})
    options = options_of(wanted)
    made = []
    for one, path in here:
        job = Job(str(path), wanted.method, given, options)
        done = result_of(
            job, [one.sha256], settings.results_folder / run, again=wanted.again, everywhere=cluster_of(settings)
        )
        if done.again:
            with writer(engine) as session:
                add_analysis(
                    session,
                    run_id=require_run(session, name=run),
                    method=wanted.method,
                    verdict=done.outcome.verdict,
                    reason=done.outcome.reason,
                    path=str(done.path),
                    summary=done.summary(),
                )
        made.append(done)
    return made


def analyse_file(settings: Settings, path: Path, wanted: Wanted) -> Made:
    """Analyse any file; what is not in it stands in the calibration file."""
    known = load_model(wanted.calibration, Known) if wanted.calibration else Known(format_version=1)
    options = options_of(wanted)
    with open_frames(path) as frames:
        facts = frames.metadata
        centre = None if known.centre_px else _centre(FrameRows(frames))
        given = given_of(known, facts, frames.detector_shape, centre, frames.full_scale)
    digest = sha256_of_file(path)
    return result_of(
        Job(str(path), wanted.method, given, options),
        [digest],
        settings.results_folder / f"{path.stem[:40]}-{digest[:8]}",
        again=wanted.again,
        everywhere=cluster_of(settings),
    )


def options_of(wanted: Wanted) -> Any:
    """The options of a method, or why they are none."""
    if wanted.method not in METHODS:
        limit = f"is no method; there are {', '.join(METHODS)}"
        raise BadInput(field="method", value=wanted.method, limit=limit)
    return validate(changed({}, wanted.changes), METHODS[wanted.method].options, f"--set for {wanted.method}")


def _centre(rows: FrameRows) -> tuple[float, float] | None:
    total = np.zeros(rows.detector_shape)
    for _positions, frames in rows.read(0, rows.scan_shape[0]):
        total += np.nansum(frames, axis=0, dtype=np.float64)
    found = find_disk(total)
    return found.centre_px if found.ok else None
