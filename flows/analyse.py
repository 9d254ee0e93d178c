"""Analyses recorded data again or for the first time: the passes of a run, or any file with a word on its geometry."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from db.engine import Engine, reader, writer
from db.questions.files import require_run
from db.questions.show import show_run
from db.results import add_analysis
from flows.recorded import passes_here
from stem4d.analyse.known import Known, given_of, with_known
from stem4d.analyse.method import Given
from stem4d.analyse.methods import FROM_MAPS, METHODS
from stem4d.analyse.ptychography.method import PTYCHOGRAPHY
from stem4d.analyse.ptychography.options import PtychographyOptions
from stem4d.calibrate.disk import find_disk
from stem4d.errors import BadInput
from stem4d.plan import Plan
from storage.disk import sha256_of_file
from storage.documents import changed, load_model, validate
from storage.handover import write_handover
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
    _require_method(wanted)
    made, recorded = [], _recorded(engine, run)
    known = _known(wanted)
    # The figures that a result rests on stand in its file; what somebody said of them, in the record too.
    said = {"calibration": known.model_dump_json(exclude_unset=True)} if wanted.calibration else {}
    for one in _passes(engine, run, known):
        options = options_of(wanted, one.plan)
        job, folder = Job(str(one.path), wanted.method, one.given, options), settings.results_folder / run
        everywhere = cluster_of(settings)
        done = result_of(job, [one.sha256], folder, again=wanted.again, everywhere=everywhere)
        if not done.again and done.summary()["results_sha256"] not in recorded:
            # It was never recorded, or is not what was: in both cases nobody vouches for it.
            done = result_of(job, [one.sha256], folder, again=True, everywhere=everywhere)
        if done.again:
            with writer(engine) as session:
                add_analysis(
                    session,
                    run_id=require_run(session, name=run),
                    method=wanted.method,
                    verdict=done.outcome.verdict,
                    reason=done.outcome.reason,
                    path=str(done.path),
                    summary={**done.summary(), **said},
                )
        made.append(done)
    return made


def _recorded(engine: Engine, run: str) -> set[str]:
    """Checksums of the results that stand in the record of a run."""
    with reader(engine) as session:
        analyses = show_run(session, name=run)["analyses"]
    return {one["summary"].get("results_sha256", "") for one in analyses if one["summary"]}


def analyse_file(settings: Settings, path: Path, wanted: Wanted) -> Made:
    """Analyse any file; what is not in it stands in the calibration file."""
    options = options_of(wanted)
    one = _file(path, wanted)
    return result_of(
        Job(str(path), wanted.method, one.given, options),
        [one.sha256, *one.beside],
        settings.results_folder / f"{path.stem[:40]}-{one.sha256[:8]}",
        again=wanted.again,
        everywhere=cluster_of(settings),
    )


def hand_over_run(engine: Engine, run: str, wanted: Wanted, folder: Path) -> list[Path]:
    """Write what a multislice engine needs of each pass of a run; gives its parameter files.

    Raises
    ------
    BadInput
        For another method than ptychography, or a folder that holds something.
    NotPossible
        Where the thickness or the defocus is not known.
    """
    _require_handed_over(wanted)
    passes = _passes(engine, run, _known(wanted))
    places = [folder / f"pass-{number}" for number in range(1, len(passes) + 1)] if len(passes) > 1 else [folder]
    return [_hand_over(one, wanted, place) for one, place in zip(passes, places, strict=True)]


def hand_over_file(path: Path, wanted: Wanted, folder: Path) -> Path:
    """The same of any file."""
    _require_handed_over(wanted)
    return _hand_over(_file(path, wanted), wanted, folder)


def _require_handed_over(wanted: Wanted) -> None:
    if wanted.method != PTYCHOGRAPHY.name:
        limit = f"only {PTYCHOGRAPHY.name} is handed over to an engine of its own"
        raise BadInput(field="--handover", value=wanted.method, limit=limit, remedy="Leave --handover out")


def _hand_over(one: "_Input", wanted: Wanted, folder: Path) -> Path:
    options: PtychographyOptions = options_of(wanted, one.plan)
    with open_frames(one.path) as frames:
        return write_handover(folder, one.given, options, FrameRows(frames), f"{one.path} (SHA-256 {one.sha256})")


@dataclass(frozen=True)
class _Input:
    """A file that is analysed, and what is known of it."""

    path: Path
    sha256: str
    given: Given
    plan: Plan | None = None
    """Whose words about an analysis are its options, unless others are given."""
    beside: tuple[str, ...] = ()
    """SHA-256 of other files that its data are read from."""


def _known(wanted: Wanted) -> Known:
    """What a person says; nothing where there is no document."""
    return load_model(wanted.calibration, Known) if wanted.calibration else Known(format_version=1)


def _passes(engine: Engine, run: str, known: Known) -> list[_Input]:
    """The passes of a run, if all of them lie on this machine."""
    with reader(engine) as session:
        facts = show_run(session, name=run)
    here = passes_here(engine, run)
    for one, path in here:
        if (found := sha256_of_file(path)) != one.sha256:
            limit = f"is not what the run recorded: SHA-256 {found[:12]}, recorded {one.sha256[:12]}"
            raise BadInput(field="data", value=str(path), limit=limit, remedy="Bring the file back, or name it instead")
    plan = Plan.model_validate(facts["plan"]["document"], strict=False)
    given = with_known(given_of_run(plan, {one["kind"]: one for one in facts["calibrations"]}), known)
    return [_Input(path, one.sha256, given, plan) for one, path in here]


def _file(path: Path, wanted: Wanted) -> _Input:
    known = _known(wanted)
    with open_frames(path) as frames:
        facts = frames.metadata
        centre = None if known.centre_px else _centre(FrameRows(frames))
        given = given_of(known, facts, frames.detector_shape, centre, frames.full_scale)
        beside = tuple(sha256_of_file(one) for one in frames.beside)
    return _Input(path, sha256_of_file(path), given, beside=beside)


def options_of(wanted: Wanted, plan: Plan | None = None) -> Any:
    """The options of a method, or why they are none: those of a plan, and over them what a person says."""
    _require_method(wanted)
    options = METHODS[wanted.method].options
    said: dict[str, Any] = {}
    for one in plan.analyses if plan else ():
        if one.kind == wanted.method and one.kind not in FROM_MAPS:
            told = one.model_dump(mode="json", exclude_none=True)
            said = {name: value for name, value in told.items() if name in options.model_fields}
    return validate(changed(said, wanted.changes), options, f"--set for {wanted.method}")


def _require_method(wanted: Wanted) -> None:
    if wanted.method not in METHODS:
        limit = f"is no method; there are {', '.join(METHODS)}"
        raise BadInput(field="method", value=wanted.method, limit=limit)


def _centre(rows: FrameRows) -> tuple[float, float] | None:
    total = np.zeros(rows.detector_shape)
    for _positions, frames in rows.read(0, rows.scan_shape[0]):
        total += np.nansum(frames, axis=0, dtype=np.float64)
    found = find_disk(total)
    return found.centre_px if found.ok else None
