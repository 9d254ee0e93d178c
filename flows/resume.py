"""Going on with a night that was broken off: what is done stays done, and a broken target is decided pass by pass."""

import socket
from dataclasses import dataclass
from pathlib import Path

from db.engine import reader, writer
from db.operations import RegisterArea
from db.questions.files import files_of_run
from db.results import add_dataset
from db.resume import BrokenRun, NightLeft, broken_run, night_left, reopen_night
from flows.before import same_night
from flows.queue import Queued
from flows.run import Outcome
from stem4d.errors import NightbeamError
from stem4d.model import canonical_json, sha256_of
from stem4d.night import TIMED, Night, TargetState
from stem4d.plan import Plan
from stem4d.quality.remedies.choose import LAST
from stem4d.rest import Rest, rest_of
from stem4d.schedule import Measured
from storage.salvage import recovered_path, salvage
from storage.verify import verify_file
from tasks.approach_scans import PLACED_BY
from tasks.lab import Lab, OpenRun
from tasks.means import spare_left
from tasks.record import area_key
from tasks.recovered import register_recovered


@dataclass(frozen=True)
class Broken:
    """A target that was broken off: its last run, closed, and how much of it is there."""

    run: BrokenRun
    plan: Plan
    """Of that run: a remedy may have changed it."""
    passes_done: int
    """How many of its passes were recorded whole."""
    runs: tuple[str, ...]
    """All runs of the target up to that one."""
    ended: Outcome | None = None
    """How it had ended, where its last run was closed before the night was; None where something is left of it."""
    survey: str | None = None
    """File of the last survey by which its field was put in place; None where its plan asks for none."""


@dataclass(frozen=True)
class Resumed:
    """A night that goes on."""

    ids: dict[str, int]
    """Target's id by name."""
    ended: dict[str, Outcome]
    """What had ended before, by name."""
    broken: dict[str, Broken]
    """Targets that are open, of which something was run."""
    measured: Measured
    """What those that had ended took."""


def left_of(opened: Lab, night: Night, queued: tuple[Queued, ...]) -> NightLeft | None:
    """The last night of this content with something left to do; None where its plans have changed since."""
    with reader(opened.engine) as session:
        sha256 = sha256_of(canonical_json(night))
        return same_night(night_left(session, sha256=sha256, instrument=opened.file.name), queued)


def resume(opened: Lab, left: NightLeft) -> Resumed:
    """Open a night again, and close what it had broken off.

    All that only the database knows of that is asked now: it may be away when the turn of a target comes.
    """
    with writer(opened.engine) as session:
        reopen_night(session, night_id=left.id)
    ended = {one.name: Outcome(TargetState(one.state), one.reason, one.runs) for one in left.targets if not one.open}
    found = {one.name: broken_of(opened, one.id, one.runs) for one in left.targets if one.open}
    broken = {name: one for name, one in found.items() if one is not None}
    return Resumed({one.name: one.id for one in left.targets}, ended, broken, _measured(left))


def _measured(left: NightLeft) -> Measured:
    measured = Measured()
    for one in left.targets:
        if TargetState(one.state) in TIMED and one.predicted_s is not None and one.actual_s is not None:
            measured = measured.with_target(one.predicted_s, one.actual_s)
    return measured


def broken_of(opened: Lab, target_id: int, runs: tuple[str, ...]) -> Broken | None:
    """Close the last run of a target that was broken off; None where nothing was run of it."""
    with reader(opened.engine) as session:
        run = broken_run(session, target_id=target_id)
    if run is None:
        return None
    plan = Plan.model_validate_json(run.plan_json)
    done = _passes(opened, run, plan)
    _keep_rows(opened, run, plan)
    return Broken(run, plan, done, runs, judged_before(run, runs), _survey(opened, run, plan))


def judged_before(run: BrokenRun, runs: tuple[str, ...]) -> Outcome | None:
    """How a target has ended whose last run was judged and closed when the night broke off; None of any other."""
    reason = run.reason
    if run.state == "done" and run.mended_by:
        return Outcome(TargetState.MENDED, "; ".join(filter(None, (reason, f"after {'; '.join(run.mended_by)}"))), runs)
    if run.state == "done":
        return Outcome(TargetState.DONE, reason, runs)
    if run.state != "marked" or not run.lit:
        return None
    if "skip" in run.remedies:
        return Outcome(TargetState.SKIPPED, reason, runs)
    not_tried = [one for one in run.remedies if one not in LAST]
    words = f" ({'; '.join(not_tried)} not tried: the night broke off)" if not_tried else ""
    return Outcome(TargetState.MARKED, f"{reason}{words}", runs)


def again(opened: Lab, target_id: int, broken: Broken) -> Rest:
    """Decide what is done of a target that was broken off.

    A pass that was recorded whole is never repeated. What is left of the passes goes to the same field where the plan's
    approach finds it again, else to a spare area, or is given up with the reason.
    """
    run, plan = broken.run, broken.plan
    left = opened.recorder.left_e_per_a2(area_key(plan)) or 0.0
    spare = spare_left(opened, plan)
    rest = rest_of(
        plan,
        broken.passes_done,
        lit=run.lit,
        left_e_per_a2=left,
        spare_left_e_per_a2=spare,
        survey=broken.survey,
    )
    # What follows is a child of the broken run: stages look it up among the runs of this process.
    area_id = opened.recorder.record(RegisterArea(area=area_key(plan)))
    known = OpenRun(run.name, run.id, area_id, target_id, plan, opened.instrument.now_s())
    opened.runs |= dict.fromkeys(broken.runs, known)
    opened.tell("target resumed", rest.reason, run.name)
    return rest


def _passes(opened: Lab, broken: BrokenRun, plan: Plan) -> int:
    """How many passes were recorded whole; one whose file is whole, but was not registered any more, is registered."""
    # A file gets this name when its pass has ended, and a pass that was ended early another one.
    named = {
        index: opened.settings.data_folder / broken.name / f"pass{index + 1}.h5"
        for index in range(plan.exposure.passes)
    }
    known = {index for index, path in broken.passes if index in named and Path(path).name == named[index].name}
    for index, path in named.items():
        if index in known or not path.is_file():
            continue
        try:
            found = verify_file(path, hashed=True)
        except NightbeamError as error:
            opened.tell("pass left", f"{path.name} is there and cannot be read: {error}", broken.name)
            continue
        facts = found.findings
        if found.troubles or facts is None or found.sha256 is None:
            opened.tell("pass left", f"{path.name} is there and not sound: {' '.join(found.troubles)}", broken.name)
            continue
        with writer(opened.engine) as session:
            add_dataset(
                session,
                run_id=broken.id,
                pass_index=index,
                sha256=found.sha256,
                size_bytes=found.bytes,
                scan_shape=facts.scan_shape,
                detector_shape=facts.detector_shape,
                dtype=facts.dtype,
                frames=facts.recorded,
                complete=True,
                path=str(path),
                host=socket.gethostname(),
            )
        known.add(index)
    return len(known)


def _survey(opened: Lab, broken: BrokenRun, plan: Plan) -> str | None:
    """The survey after which the field of a run was exposed: as a thumbnail it shows where the field was."""
    if plan.approach is None or plan.approach.thumbnail is None:
        return None
    with reader(opened.engine) as session:
        known = files_of_run(session, name=broken.name)
    here = [Path(path) for one in known if one.purpose == "survey" for path in one.paths(socket.gethostname())]
    surveys = [path for path in here if path.name.startswith(f"{PLACED_BY}-") and path.is_file()]
    return str(surveys[-1]) if surveys else None


def _keep_rows(opened: Lab, broken: BrokenRun, plan: Plan) -> None:
    """Save what came of a pass that was broken off, where no session before did, and say how many whole rows it is."""
    for path in sorted((opened.settings.data_folder / broken.name).glob("pass*.h5.partial")):
        kept = recovered_path(path)
        try:
            if not kept.exists():
                saved = salvage(path, reserve_bytes=int(opened.settings.disk_reserve_gb * 1e9))
                register_recovered(opened.engine, saved)
        except NightbeamError as error:
            opened.tell("pass left", f"{path.name}: {error}", broken.name)
            continue
        with reader(opened.engine) as session:
            known = files_of_run(session, name=broken.name)
        frames = next((one.frames for one in known if str(kept.absolute()) in one.paths(socket.gethostname())), None)
        if frames is None:
            opened.tell("pass left", f"{kept.name} is there and not recorded", broken.name)
            continue
        rows, columns = plan.scan.shape
        words = f"{frames // columns} of {rows} whole rows of {path.name} are kept in {kept.name}"
        opened.tell("pass closed", words, broken.name, rows=frames // columns)
