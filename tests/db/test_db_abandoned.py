"""What a process that died left open is closed by the next holder of its instrument, once, and nobody else's work."""

from db_world import World
from sqlalchemy import select

from db import record
from db.abandoned import REASON, close_abandoned
from db.engine import reader, writer
from db.models import Night, Run, Target


def states(world: World) -> tuple[list[str], list[str], list[str]]:
    with reader(world.engine) as session:
        return tuple(  # type: ignore[return-value]
            list(session.scalars(select(kind.state).order_by(kind.id)).all()) for kind in (Run, Target, Night)
        )


def instrument_of(world: World) -> str:
    with reader(world.engine) as session:
        return session.get_one(Run, world.run).instrument


def test_runs_targets_and_the_night_are_closed_once(world: World) -> None:
    with writer(world.engine) as session:
        record.set_target_state(session, target_id=world.target, state="running", clock=world.clock)
        record.add_target(session, night_id=world.night, position=7, name="next")
        other = record.start_run(
            session, name="r-other", plan_id=world.plan, area_id=world.area, instrument="elsewhere", clock=world.clock
        )
    with writer(world.engine) as session:
        closed = close_abandoned(session, instrument=instrument_of(world), clock=world.clock)
    assert len(closed.runs) == 1
    assert len(closed.nights) == 1
    runs, targets, nights = states(world)
    assert runs == ["crashed", "running"]
    assert targets[0] == "failed"
    assert targets[-1] == "skipped"
    assert nights == ["crashed"]
    with reader(world.engine) as session:
        assert session.get_one(Run, world.run).exit_reason == REASON
        assert session.get_one(Run, other).state == "running"
    with writer(world.engine) as session:
        again = close_abandoned(session, instrument=instrument_of(world), clock=world.clock)
    assert again.runs == again.nights == ()
