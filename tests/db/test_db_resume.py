"""What of a night is left, and what a broken target had received: the same on both databases."""

from db_world import World
from sqlalchemy.orm import Session

from db import dose, record, results
from db.abandoned import close_abandoned
from db.engine import reader, writer
from db.resume import broken_run, night_before, night_left, reopen_night, time_target
from db.vocabulary import RunState
from stem4d.model import sha256_of

SHA = sha256_of('{"targets":[]}')


def crash(world: World) -> None:
    """The night of the world with its run open and another target waiting, whose process has died."""
    with writer(world.engine) as session:
        record.set_target_state(session, target_id=world.target, state="running", clock=world.clock)
        record.add_target(session, night_id=world.night, position=1, name="second", plan_id=world.plan)
        third = record.add_target(session, night_id=world.night, position=2, name="third", plan_id=world.plan)
        record.set_target_state(session, target_id=third, state="skipped", reason="by a person", clock=world.clock)
    with writer(world.engine) as session:
        close_abandoned(session, instrument="simulator", clock=world.clock)


def test_a_night_whose_process_died_is_left_with_what_had_not_ended(world: World) -> None:
    with reader(world.engine) as session:
        assert night_left(session, sha256="0" * 64, instrument="simulator") is None
    crash(world)
    with reader(world.engine) as session:
        left = night_left(session, sha256=SHA, instrument="simulator")
    assert left is not None
    assert (left.state, [(one.name, one.state, one.open) for one in left.targets]) == (
        "crashed",
        [("first", "failed", True), ("second", "skipped", True), ("third", "skipped", False)],
    )
    assert left.targets[0].runs == ("r20261122-204139-0001",)


def test_it_goes_on_with_an_event_of_each_and_ends_like_any_other(world: World) -> None:
    crash(world)
    with writer(world.engine) as session:
        reopen_night(session, night_id=world.night, clock=world.clock)
    with reader(world.engine) as session:
        left = night_left(session, sha256=SHA, instrument="simulator")
    assert left is not None
    assert (left.state, [one.state for one in left.targets]) == ("running", ["pending", "pending", "skipped"])
    with writer(world.engine) as session:
        for target in left.targets[:2]:
            record.set_target_state(session, target_id=target.id, state="done", clock=world.clock)
            time_target(session, target_id=target.id, predicted_s=10, actual_s=20)
            time_target(session, target_id=target.id, predicted_s=1, actual_s=2)
        record.finish_night(session, night_id=world.night, state="done", clock=world.clock)
    with reader(world.engine) as session:
        assert night_left(session, sha256=SHA, instrument="simulator") is None


def test_only_the_last_night_of_a_content_on_an_instrument_is_looked_at(world: World) -> None:
    def ended_later(instrument: str) -> None:
        with writer(world.engine) as session:
            other = record.start_night(
                session,
                name=f"n-later-{instrument}",
                canonical_json='{"targets":[]}',
                instrument=instrument,
                clock=world.clock,
            )
            record.finish_night(session, night_id=other, state="done", clock=world.clock)

    crash(world)
    # The same files beside another instrument, which may be running them now.
    ended_later("other")
    with reader(world.engine) as session:
        left = night_left(session, sha256=SHA, instrument="simulator")
        assert night_left(session, sha256=SHA, instrument="other") is None
    assert left is not None
    assert left.id == world.night
    ended_later("simulator")
    with reader(world.engine) as session:
        assert night_left(session, sha256=SHA, instrument="simulator") is None


def test_the_last_night_of_a_name_is_found_whatever_its_content_and_end(world: World) -> None:
    def told(name: str, text: str, instrument: str = "simulator") -> int:
        with writer(world.engine) as session:
            return record.start_night(session, name=name, canonical_json=text, instrument=instrument, clock=world.clock)

    def found(name: str, instrument: str = "simulator") -> str | None:
        with reader(world.engine) as session:
            before = night_before(session, name=name, instrument=instrument)
        return before and before.name

    assert found("flakes_1") is None
    first = told("n-1", '{"name":"flakes_1","targets":[]}')
    # The name of a target, a name that a pattern would take for it, and another instrument's are none of it.
    told("n-2", '{"name":"other","targets":[{"name":"flakes_1"}]}')
    told("n-3", '{"name":"flakesX1","targets":[]}')
    told("n-4", '{"name":"flakes_1","targets":[]}', "elsewhere")
    assert found("flakes_1") == "n-1"
    assert found("flakes_1", "elsewhere") == "n-4"
    with writer(world.engine) as session:
        target = record.add_target(session, night_id=first, position=0, name="a", plan_id=world.plan)
        record.set_target_state(session, target_id=target, state="skipped", broken_off=True, clock=world.clock)
        record.finish_night(session, night_id=first, state="stopped", clock=world.clock)
    with reader(world.engine) as session:
        before = night_before(session, name="flakes_1", instrument="simulator")
    assert before is not None
    assert (before.state, before.ended is not None, [one.open for one in before.targets]) == ("stopped", True, [True])


def test_a_night_that_died_before_its_first_run_is_closed_by_its_instruments_next_session(world: World) -> None:
    with writer(world.engine) as session:
        for instrument in ("simulator", "other"):
            record.start_night(
                session, name=f"n-{instrument}", canonical_json="{}", instrument=instrument, clock=world.clock
            )
    with writer(world.engine) as session:
        found = close_abandoned(session, instrument="simulator", clock=world.clock)
    assert found.nights == ("n20261122-204139-0001", "n-simulator")


def test_what_a_broken_run_gave_its_area_is_doubted_until_it_was_never_lit(world: World) -> None:
    def lit() -> bool:
        with reader(world.engine) as session:
            found = broken_run(session, target_id=world.target)
        assert found is not None
        return found.lit

    def intent(token: str) -> int:
        with writer(world.engine) as session:
            return dose.open_intent(
                session, run_id=world.run, area_id=world.area, purpose="acquisition", token=token, fluence_e_per_a2=10
            )

    assert not lit()
    first = intent("one")
    assert lit()
    with writer(world.engine) as session:
        dose.close_intent(session, intent_id=first, delivered_e_per_a2=0, electrons=0, reason="never let through")
    assert not lit()
    second = intent("two")
    with writer(world.engine) as session:
        dose.close_intent(session, intent_id=second, delivered_e_per_a2=10)
    assert lit()


def test_it_says_how_the_run_ended_and_which_remedies_led_to_it(world: World) -> None:
    def attempt(name: str, parent: int, action: str | None, state: RunState) -> int:
        with writer(world.engine) as session:
            run = record.start_run(
                session,
                name=name,
                plan_id=world.plan,
                area_id=world.area,
                instrument="simulator",
                target_id=world.target,
                attempt=2,
                parent_id=parent,
            )
            record.finish_run(session, run_id=run, state=state, exit_reason=f"why of {name}")
            if action:
                remedy(session, run, action)
        return run

    def remedy(session: Session, run: int, action: str) -> None:
        results.add_remedy(
            session,
            run_id=run,
            cause_metric="drift",
            action=action,
            from_value=None,
            to_value=None,
            cost="none",
            outcome="chosen",
        )

    with writer(world.engine) as session:
        record.finish_run(session, run_id=world.run, state="marked", exit_reason="it drifts")
        remedy(session, world.run, "settle")
    with reader(world.engine) as session:
        first = broken_run(session, target_id=world.target)
    assert first is not None
    assert (first.state, first.reason, first.remedies, first.mended_by) == ("marked", "it drifts", ("settle",), ())
    second = attempt("r2", world.run, "reduce_current", "marked")
    attempt("r3", second, None, "done")
    with reader(world.engine) as session:
        last = broken_run(session, target_id=world.target)
    assert last is not None
    assert (last.name, last.reason, last.remedies) == ("r3", "why of r3", ())
    assert last.mended_by == ("settle", "reduce_current")


def test_its_passes_are_those_that_were_registered(world: World) -> None:
    with writer(world.engine) as session:
        for index, purpose in ((0, "acquisition"), (1, "acquisition"), (1000, "calibration")):
            results.add_dataset(
                session,
                run_id=world.run,
                pass_index=index,
                sha256=f"{index:064x}",
                size_bytes=1,
                scan_shape=(2, 2),
                detector_shape=(2, 2),
                dtype="uint16",
                frames=4,
                complete=index == 0,
                purpose=purpose,  # type: ignore[arg-type]
                path=f"pass{index + 1}.h5",
                host="here",
            )
    with reader(world.engine) as session:
        found = broken_run(session, target_id=world.target)
    assert found is not None
    assert found.passes == ((0, "pass1.h5"), (1, "pass2.h5"))
    assert found.plan_json == '{"defocus_nm":-12.5}'
