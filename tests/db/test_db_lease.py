"""One owner of an instrument across processes and hosts: refused, renewed, given back, taken over, never two."""

from datetime import datetime, timedelta
from pathlib import Path

import pytest
from lease_races import race
from sqlalchemy import Engine, select
from sqlalchemy.orm import Session

from db import lease
from db.engine import reader, writer
from db.models import Lease
from stem4d.errors import BadInput, InstrumentTaken
from storage.processes import ProcessMark

HERE, THERE = ProcessMark("here", 100, "boot.1:7"), ProcessMark("there", 200, "boot.2:9")
START = datetime.fromisoformat("2026-11-27T21:00:00+00:00")


class Clock:
    """The database's clock, set by the test."""

    def __init__(self) -> None:
        self.now = START

    def __call__(self, _session: Session) -> datetime:
        return self.now


def take(engine: Engine, clock: Clock, who: ProcessMark = HERE, there: bool | None = None, **more: bool) -> int:
    with writer(engine) as session:
        return lease.take(
            session,
            instrument="stem",
            owner=f"someone {who.host}",
            process=who,
            lives=lambda _process: there,
            now=clock,
            **more,
        )


def test_a_live_owner_is_named_with_host_time_and_what_to_do(engine: Engine) -> None:
    clock = Clock()
    assert take(engine, clock) == 1
    clock.now += timedelta(seconds=119)
    with pytest.raises(BadInput) as caught:
        take(engine, clock, THERE)
    said = str(caught.value)
    assert "held by someone here, process 100 on here, since 2026-11-27 21:00:00 UTC" in said
    assert "wait until 21:02:00 UTC" in said
    assert "nightbeam recover --take-over stem" in said


def test_an_owner_that_is_seen_to_live_is_not_taken_over_expired_or_by_force(engine: Engine) -> None:
    """Its database was away: on its own host it is seen that it goes on."""
    clock = Clock()
    take(engine, clock)
    clock.now += timedelta(days=1)
    with pytest.raises(BadInput, match="stop it on here"):
        take(engine, clock, THERE, there=True)
    with pytest.raises(BadInput, match="stop it on here"):
        take(engine, clock, THERE, there=True, by_force=True)


@pytest.mark.parametrize("how", ["expired", "dead", "by force", "released"])
def test_it_is_taken_over_with_a_higher_token_and_the_loser_is_told(engine: Engine, how: str) -> None:
    clock = Clock()
    assert take(engine, clock) == 1
    if how == "released":
        with writer(engine) as session:
            lease.release(session, instrument="stem", token=1, now=clock)
    if how == "expired":
        clock.now += timedelta(seconds=lease.LEASE_S)
    assert take(engine, clock, THERE, there=False if how == "dead" else None, by_force=how == "by force") == 2
    with pytest.raises(InstrumentTaken, match="taken over by someone there, process 200 on there"), writer(engine) as s:
        lease.renew(s, instrument="stem", token=1, now=clock)
    with writer(engine) as session:
        # The loser lets go of what is not its own any more: the new owner's lease stays.
        lease.release(session, instrument="stem", token=1, now=clock)
        (one,) = lease.owners(session, now=clock)
    assert (one.token, one.process, one.expired) == (2, THERE, False)


def test_a_lease_that_expired_and_that_nobody_took_goes_on(engine: Engine) -> None:
    clock = Clock()
    token = take(engine, clock)
    clock.now += timedelta(hours=1)
    with writer(engine) as session:
        assert lease.owners(session, now=clock)[0].expired
        assert lease.renew(session, instrument="stem", token=token, now=clock) == clock.now + timedelta(seconds=120)
    # A clock that was set back does not shorten it.
    held_until, clock.now = clock.now + timedelta(seconds=120), START
    with writer(engine) as session:
        assert lease.renew(session, instrument="stem", token=token, now=clock) == held_until


def test_what_was_given_back_is_nobodys_and_twice_changes_nothing(engine: Engine) -> None:
    clock = Clock()
    token = take(engine, clock)
    for _ in range(2):
        clock.now += timedelta(seconds=1)
        with writer(engine) as session:
            lease.release(session, instrument="stem", token=token, now=clock)
    with reader(engine) as session:
        row = session.scalars(select(Lease)).one()
        assert (row.released, row.ended_by) == (START + timedelta(seconds=1), "its owner")
        assert lease.owners(session, now=clock) == ()
    with pytest.raises(InstrumentTaken, match="was ended by its owner"), writer(engine) as session:
        lease.renew(session, instrument="stem", token=token, now=clock)


def test_an_instrument_that_has_seen_higher_tokens_raises_its_owners(engine: Engine) -> None:
    clock = Clock()
    token = take(engine, clock)
    with writer(engine) as session:
        assert lease.raise_above(session, instrument="stem", token=token, seen=41) == 42
    with pytest.raises(InstrumentTaken), writer(engine) as session:
        lease.renew(session, instrument="stem", token=token, now=clock)
    with writer(engine) as session:
        assert lease.raise_above(session, instrument="stem", token=42, seen=3) == 42
        lease.release(session, instrument="stem", token=42, now=clock)
    assert take(engine, clock) == 43


def test_a_database_that_knows_nothing_of_a_lease_says_so(engine: Engine) -> None:
    with pytest.raises(InstrumentTaken, match="not the one it was"), writer(engine) as session:
        lease.renew(session, instrument="stem", token=5)


def test_the_clock_is_the_databases(engine: Engine) -> None:
    with reader(engine) as session:
        first, second = lease.database_now(session), lease.database_now(session)
    assert first.tzinfo is not None
    # Within one transaction it goes on; SQLite gives milliseconds.
    assert timedelta(0) <= second - first < timedelta(seconds=30)


@pytest.mark.parametrize("on_one_host", [True, False], ids=["one-host", "hosts"])
def test_of_several_that_want_it_at_once_one_gets_it(url: str, tmp_path: Path, on_one_host: bool) -> None:
    races = race(url, tmp_path, processes=6, rounds=3, on_one_host=on_one_host)
    assert [len(tokens) for tokens in races.winners] == [1, 1, 1]
    assert [tokens[0] for tokens in races.winners] == [1, 2, 3]
    # Whoever is refused is told by whom.
    assert races.refused.total() == 15
    assert all(word == "process" if on_one_host else word.startswith("runner-") for word in races.refused)


@pytest.mark.slow
@pytest.mark.parametrize("on_one_host", [True, False], ids=["one-host", "hosts"])
def test_fifty_processes_in_twenty_rounds_never_book_twice(url: str, tmp_path: Path, on_one_host: bool) -> None:
    races = race(url, tmp_path, processes=50, rounds=20, on_one_host=on_one_host)
    assert [len(tokens) for tokens in races.winners] == [1] * 20
    assert [tokens[0] for tokens in races.winners] == list(range(1, 21))
    print(f"0 double bookings in 1000 races, {races.seconds:.0f} s; refused: {races.refused.total()}")
