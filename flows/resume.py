"""Going on with a night that was broken off: what is done stays done, and a broken target is decided pass by pass."""

import socket
from dataclasses import dataclass
from pathlib import Path

from db.dose import area_fluence
from db.engine import reader, writer
from db.questions.files import files_of_run
from db.results import add_dataset
from db.resume import BrokenRun, NightLeft, broken_run, night_left, reopen_night
from flows.before import same_night
from flows.queue import Queued
from flows.run import Outcome
from stem4d.errors import NightbeamError
from stem4d.model import canonical_json, sha256_of
from stem4d.night import Night, TargetState
from stem4d.plan import Plan
from stem4d.rest import Rest, rest_of
from storage.salvage import recovered_path, salvage
from storage.verify import verify_file
from tasks.lab import Lab, OpenRun
from tasks.means import spare_left
from tasks.recovered import register_recovered


@dataclass(frozen=True)
class Resumed:
    """A night that goes on."""

    left: NightLeft
    ids: dict[str, int]
    """Target's id by name."""
    ended: dict[str, Outcome]
    """What had ended before, by name."""

    @property
    def runs(self) -> dict[str, tuple[str, ...]]:
        """Runs of targets that are open, of which something was run."""
        return {one.name: one.runs for one in self.left.targets if one.open and one.runs}


def left_of(opened: Lab, night: Night, queued: tuple[Queued, ...]) -> NightLeft | None:
    """The last night of this content with something left to do; None where its plans have changed since."""
    with reader(opened.engine) as session:
        return same_night(night_left(session, sha256=sha256_of(canonical_json(night))), queued)


def resume(opened: Lab, left: NightLeft) -> Resumed:
    """Open a night again."""
    with writer(opened.engine) as session:
        reopen_night(session, night_id=left.id)
    ended = {one.name: Outcome(TargetState(one.state), one.reason, one.runs) for one in left.targets if not one.open}
    return Resumed(left, {one.name: one.id for one in left.targets}, ended)


@dataclass(frozen=True)
class Again:
    """What is run of a target that was broken off."""

    rest: Rest
    earlier: tuple[str, ...]
    """The runs before, if what follows is their child."""


def again(opened: Lab, target_id: int, plan: Plan, runs: tuple[str, ...]) -> Again:
    """Close what was broken off, and decide what is done of a target.

    A pass that was recorded whole is never repeated. The field is not found again yet: what is left of the passes goes
    to a spare area, or is given up with the reason.
    """
    with reader(opened.engine) as session:
        broken = broken_run(session, target_id=target_id)
    if broken is None:
        return Again(Rest(plan, "nothing had been run of it"), ())
    ran = Plan.model_validate_json(broken.plan_json)
    done = _passes(opened, broken, ran)
    _keep_rows(opened, broken, ran)
    with reader(opened.engine) as session:
        left = area_fluence(session, area_id=broken.area_id).left_e_per_a2
    rest = rest_of(ran, done, lit=broken.lit, left_e_per_a2=left, spare_left_e_per_a2=spare_left(opened, ran))
    # What follows is a child of the broken run: stages look it up among the runs of this process.
    opened.runs[broken.name] = OpenRun(
        broken.name, broken.id, broken.area_id, target_id, ran, opened.instrument.now_s()
    )
    for name in runs[:-1]:
        opened.runs.setdefault(name, opened.runs[broken.name])
    opened.tell("target resumed", rest.reason, broken.name)
    return Again(rest, runs)


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
