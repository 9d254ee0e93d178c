"""The dose ledger: a budget is kept to the last booking, by one caller or by many at once."""

import math
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from db_world import World
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import select

from db import record
from db.dose import ROUNDING, AreaFluence, area_fluence, close_intent, open_intent
from db.engine import open_engine, reader, writer
from db.models import DoseEntry, ExposureIntent
from stem4d.errors import BadInput, DoseRefused

ROOT = Path(__file__).parents[2]


def book(world: World, fluence: float, token: str = "t1", **more: object) -> int:
    """Open an intent on the world's area, in a transaction of its own."""
    with writer(world.engine) as session:
        return open_intent(
            session,
            run_id=world.run,
            area_id=world.area,
            purpose="acquisition",
            token=token,
            fluence_e_per_a2=fluence,
            **more,
        )


def account(world: World) -> AreaFluence:
    with reader(world.engine) as session:
        return area_fluence(session, area_id=world.area)


@pytest.mark.parametrize(
    ("fluence", "tolerance", "fits"),
    [
        (100.0, 0.0, True),
        (100.001, 0.0, False),
        (99.999, 0.0, True),
        (105.0, 0.05, True),
        (105.001, 0.05, False),
        (0.0, 0.0, True),
        (1e308, 0.0, False),
    ],
)
def test_the_budget_at_its_limit_and_beside_it(world: World, fluence: float, tolerance: float, fits: bool) -> None:
    if fits:
        book(world, fluence, budget_tolerance=tolerance)
    else:
        with pytest.raises(DoseRefused):
            book(world, fluence, budget_tolerance=tolerance)
    assert account(world).reserved_e_per_a2 == (fluence if fits else 0.0)


def test_a_budget_divided_into_equal_parts_affords_all_of_them_and_no_more(world: World) -> None:
    # 100/7 as a float is above 100/7: seven of them sum to more than 100 in the last digit.
    for part in range(7):
        book(world, 100.0 / 7, token=f"part-{part}")
    with pytest.raises(DoseRefused):
        book(world, 0.001, token="one-more")


def test_a_refusal_names_the_figures(world: World) -> None:
    with writer(world.engine) as session:
        first = open_intent(
            session, run_id=world.run, area_id=world.area, purpose="focus", token="f", fluence_e_per_a2=30.0
        )
        close_intent(session, intent_id=first, delivered_e_per_a2=32.5)
    book(world, 40.0, token="open")
    with pytest.raises(DoseRefused) as refused:
        book(world, 28.0, token="too-much")
    text = str(refused.value)
    assert "area a1 of sample gold-on-carbon" in text
    assert "acquisition needs 28 e/Å²" in text
    assert "budget of 100 e/Å² 27.5 e/Å² are left (32.5 delivered, 40 reserved by open exposures)" in text


def test_closing_books_what_was_delivered_and_frees_the_rest(world: World) -> None:
    intent = book(world, 60.0)
    with pytest.raises(BadInput, match=r"less than the 60 e/Å² that were intended.*Say why"):
        close(world, intent, 20.0)
    assert account(world) == AreaFluence(100.0, 0.0, 60.0)
    close(world, intent, 20.0, electrons=3.5e7, reason="stopped after a third of the rows: saturated")
    assert account(world) == AreaFluence(100.0, 20.0, 0.0)
    book(world, 80.0, token="t2")
    with reader(world.engine) as session:
        entry = session.scalars(select(DoseEntry)).one()
        assert (entry.intended_e_per_a2, entry.delivered_e_per_a2, entry.electrons) == (60.0, 20.0, 3.5e7)
        assert entry.reason == "stopped after a third of the rows: saturated"


def close(world: World, intent: int, delivered: float, **more: object) -> None:
    with writer(world.engine) as session:
        close_intent(session, intent_id=intent, delivered_e_per_a2=delivered, **more)


def test_more_than_intended_is_booked_in_full(world: World) -> None:
    close(world, book(world, 90.0), 110.0)
    assert account(world).left_e_per_a2 == -10.0
    with pytest.raises(DoseRefused):
        book(world, 0.5, token="t2")


def test_asking_again_after_a_lost_answer_books_once(world: World) -> None:
    first = book(world, 60.0)
    assert book(world, 60.0) == first
    with pytest.raises(BadInput, match="already belongs to another exposure"):
        book(world, 59.0)
    close(world, first, 60.0)
    close(world, first, 60.0)
    with pytest.raises(BadInput, match="closed with 60"):
        close(world, first, 61.0)
    assert account(world) == AreaFluence(100.0, 60.0, 0.0)


@pytest.mark.parametrize("bad", [-1.0, math.nan, math.inf, True])
def test_a_fluence_is_a_number_of_zero_or_more(world: World, bad: float) -> None:
    with pytest.raises(BadInput, match="fluence_e_per_a2"):
        book(world, bad)
    intent = book(world, 1.0)
    with pytest.raises(BadInput, match="delivered_e_per_a2"):
        close(world, intent, bad, reason="none")
    with pytest.raises(BadInput, match="electrons"):
        close(world, intent, 1.0, electrons=bad)


def test_a_run_that_has_ended_exposes_no_more(world: World) -> None:
    with writer(world.engine) as session:
        record.finish_run(session, run_id=world.run, state="stopped", exit_reason="by hand")
    with pytest.raises(BadInput, match="only a running run may expose"):
        book(world, 1.0)


def test_areas_do_not_share_their_budgets(world: World) -> None:
    book(world, 100.0)
    with writer(world.engine) as session:
        other = record.register_area(session, sample_id=world.sample, name="a2", fluence_budget_e_per_a2=5.0)
        open_intent(session, run_id=world.run, area_id=other, purpose="survey", token="t2", fluence_e_per_a2=5.0)
        assert area_fluence(session, area_id=other).left_e_per_a2 == 0.0


BOOK_UNTIL_REFUSED = """
import sys
from db.dose import open_intent
from db.engine import open_engine, writer
from stem4d.errors import DoseRefused
url, run, area, label = sys.argv[1:]
engine = open_engine(url)
print("ready", flush=True)
sys.stdin.readline()
booked = 0
try:
    while True:
        with writer(engine) as session:
            open_intent(session, run_id=int(run), area_id=int(area), purpose="acquisition",
                        token=f"{label}-{booked}", fluence_e_per_a2=1.5)
        booked += 1
except DoseRefused:
    print(booked)
"""


def test_processes_together_book_the_budget_and_no_more(world: World) -> None:
    arguments = [sys.executable, "-c", BOOK_UNTIL_REFUSED, world.url, str(world.run), str(world.area)]
    children = [
        subprocess.Popen([*arguments, f"p{n}"], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for n in range(2)
    ]
    for child in children:
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n"
    for child in children:
        assert child.stdin is not None
        child.stdin.write("go\n")
        child.stdin.flush()
    answers = [child.communicate()[0] for child in children]
    assert [child.returncode for child in children] == [0, 0]
    # 66 times 1.5 is 99; the 67th would be 100.5.
    assert sum(int(answer) for answer in answers) == 66
    assert account(world).reserved_e_per_a2 == 99.0


def test_threads_with_one_token_book_it_once_and_with_many_never_overspend(world: World) -> None:
    barrier, booked, refused = threading.Barrier(8), [], []

    def expose(thread: int) -> None:
        engine = open_engine(world.url)
        barrier.wait()
        for attempt in range(6):
            try:
                with writer(engine) as session:
                    intent = open_intent(
                        session,
                        run_id=world.run,
                        area_id=world.area,
                        purpose="acquisition",
                        token="shared" if attempt == 0 else f"{thread}-{attempt}",
                        fluence_e_per_a2=10.0,
                    )
                    booked.append(intent)
                    if attempt % 2:
                        close_intent(session, intent_id=intent, delivered_e_per_a2=10.0)
            except DoseRefused:
                refused.append(thread)
        engine.dispose()

    threads = [threading.Thread(target=expose, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    # Ten exposures of 10 fill the budget of 100: the shared one, which all eight were given, and nine others.
    assert len(set(booked)) == 10
    assert (len(booked), len(refused)) == (17, 31)
    state = account(world)
    assert state.delivered_e_per_a2 + state.reserved_e_per_a2 == 100.0


fluences = st.floats(min_value=0.0, max_value=60.0, allow_subnormal=False)
exposures = st.lists(st.tuples(fluences, st.sampled_from(["leave open", "as intended", "less", "more"])), max_size=12)


# One database for all examples: each has an area of its own, and is rolled back.
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(exposures=exposures, tolerance=st.sampled_from([0.0, 0.1]))
def test_the_ledger_is_the_sum_of_its_exposures(
    world: World, exposures: list[tuple[float, str]], tolerance: float
) -> None:
    limit = 100.0 * (1 + tolerance)
    delivered: list[float] = []
    reserved: list[float] = []
    with writer(world.engine) as session:
        area = record.register_area(session, sample_id=world.sample, name="h", fluence_budget_e_per_a2=100.0)
        for number, (fluence, ending) in enumerate(exposures):
            wanted = math.fsum([*delivered, *reserved, fluence])
            try:
                intent = open_intent(
                    session,
                    run_id=world.run,
                    area_id=area,
                    purpose="acquisition",
                    token=f"h-{number}",
                    fluence_e_per_a2=fluence,
                    budget_tolerance=tolerance,
                )
            except DoseRefused:
                assert wanted > limit
                continue
            # Twice the allowance for rounding: the sums here and there may differ by a few last digits.
            assert wanted <= limit * (1 + 2 * ROUNDING)
            if ending == "leave open":
                reserved.append(fluence)
                continue
            delivered.append({"as intended": fluence, "less": fluence / 3, "more": fluence * 1.5}[ending])
            close_intent(session, intent_id=intent, delivered_e_per_a2=delivered[-1], reason="as the example says")
        state = area_fluence(session, area_id=area)
        # Twelve terms, each rounded to 1e-16 of at most 1100.
        assert state.delivered_e_per_a2 == pytest.approx(math.fsum(delivered), rel=1e-14, abs=1e-300)
        assert state.reserved_e_per_a2 == pytest.approx(math.fsum(reserved), rel=1e-14, abs=1e-300)
        assert len(session.scalars(select(ExposureIntent).filter_by(area_id=area, closed=None)).all()) == len(reserved)
        session.rollback()
