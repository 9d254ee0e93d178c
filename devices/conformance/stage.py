"""Checks of the stage: it goes where it is sent and says so, and stays where it cannot go further."""

from devices.conformance.subject import NEAR_ZERO, Subject, applies, need
from devices.protocols import Instrument, PosedStage
from stem4d.approach import POSE_UNITS, StagePose
from stem4d.errors import LimitViolation

REACHED_UM, REACHED_DEG = 0.1, 0.1
"""How near a pose a stage has to read; nearer is a matter for a run's own limits."""
NOWHERE = "no-such-position"


def stage_goes_where_it_is_sent(subject: Subject, instrument: Instrument) -> None:
    """It gives the name that it was sent to, and is there; being sent there again does not move it."""
    for position in _positions(subject):
        for _ in range(2):
            got = instrument.stage.go_to(position)
            need(got == position, f"sent to {position}, the stage says {got!r}")
            there = instrument.stage.position()
            need(there == position, f"sent to {position}, it stands at {there!r}")


def stage_refuses_unknown_positions(subject: Subject, instrument: Instrument) -> None:
    """A name that nobody stored is a `LimitViolation`, and it stays where it is."""
    first = _positions(subject)[0]
    instrument.stage.go_to(first)
    try:
        got = instrument.stage.go_to(NOWHERE)
    except LimitViolation:
        there = instrument.stage.position()
        need(there == first, f"refused an unknown position, and stands at {there!r} and no longer at {first}")
    else:
        need(False, f"sent to a position that nobody stored, the stage says {got!r}")


def stage_reaches_poses(subject: Subject, instrument: Instrument) -> None:
    """It reads the pose that it was sent to; the named position stays the name of where it is."""
    stage, pose = _posed(subject, instrument)
    second = _positions(subject)[1]
    instrument.stage.go_to(second)
    for reached in (stage.move_to(pose), stage.pose()):
        for axis, unit in POSE_UNITS.items():
            asked, read = getattr(pose, axis), getattr(reached, axis)
            limit = REACHED_UM if unit == "um" else REACHED_DEG
            need(abs(read - asked) <= limit, f"{axis}: asked for {asked} {unit}, it reads {read} and raises nothing")
    need(instrument.stage.go_to(second) == second, f"after a pose around {second} it does not go to {second}")
    kept = stage.pose()
    need(abs(kept.x_um - pose.x_um) <= REACHED_UM, f"being sent to {second}, where it is, took it away from its pose")


def stage_refuses_poses_out_of_range(subject: Subject, instrument: Instrument) -> None:
    """Each axis beyond the file's range is a `LimitViolation`, and the stage has not moved."""
    stage, pose = _posed(subject, instrument)
    facts = subject.file.facts.stage
    applies(facts is not None, "the instrument file states no stage")
    assert facts is not None
    for axis, unit in POSE_UNITS.items():
        allowed = facts.range_of(axis)
        far = (allowed.highest if allowed else 0.0) + (1.0 if unit == "um" else 0.5)
        before = stage.pose()
        try:
            got = stage.move_to(pose.model_copy(update={axis: far}))
        except LimitViolation:
            moved = [
                each for each in POSE_UNITS if abs(getattr(before, each) - getattr(stage.pose(), each)) > NEAR_ZERO
            ]
            need(not moved, f"refused {axis} = {far} {unit}, and moved {', '.join(moved)}")
        else:
            need(False, f"{axis} = {far} {unit} is out of range and was not refused; the stage says {got}")


def _positions(subject: Subject) -> tuple[str, str]:
    applies(subject.positions is not None, "no positions of the stage were stated")
    assert subject.positions is not None
    return subject.positions


def _posed(subject: Subject, instrument: Instrument) -> tuple[PosedStage, StagePose]:
    stage, pose = instrument.stage, subject.pose
    if pose is None:
        applies(False, "no pose was stated")
    assert pose is not None
    if not isinstance(stage, PosedStage):
        applies(False, "the stage has no poses")
    assert isinstance(stage, PosedStage)
    return stage, pose
