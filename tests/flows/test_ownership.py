"""The lease in a session: who is refused, who has lost it and stops, and what goes on without the database."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event, select

from db import lease
from db.engine import open_engine, reader, writer
from db.models import ExposureIntent, Lease
from devices.lease import is_owned
from flows.run import run_plan
from stem4d.errors import BadInput, DoseRefused, InstrumentTaken
from storage.processes import ProcessMark, this_process
from tasks.lab import Lab, Told
from tasks.ownership import owning
from tests.devices.server_world import now_lease
from tests.flows.exposure_world import begin, booked, expose_all, whole_run
from tests.flows.night_world import NAME, column_log, small, small_lab

ELSEWHERE = ProcessMark("other-host", 4711, "boot.1:5")


def taken_elsewhere(opened: Lab) -> int:
    """Another host's session takes the instrument over, as it may when this one's lease has expired."""
    with writer(opened.engine) as session:
        return lease.take(
            session, instrument=NAME, owner="the night shift", process=ELSEWHERE, by_force=True, lives=lambda _: None
        )


def leases(opened: Lab) -> list[tuple[int, str | None]]:
    with reader(opened.engine) as session:
        return [(row.token, row.ended_by) for row in session.scalars(select(Lease).order_by(Lease.token))]


def test_a_session_holds_a_lease_which_the_column_knows_and_gives_it_back(tmp_path: Path) -> None:
    with small_lab(tmp_path) as opened:
        assert opened.ownership.token == 1
        assert opened.instrument.gate.see_owner(0) == 1
        whole_run(opened, small("1_overview.yaml", 16))
        with reader(opened.engine) as session:
            (owner,) = lease.owners(session)
            assert set(session.scalars(select(ExposureIntent.owner_token))) == {1}
        assert owner.process == this_process()
    with small_lab(tmp_path) as opened:
        assert leases(opened) == [(1, "its owner"), (2, None)]
    lit = [one for one in column_log(tmp_path) if one["event"] == "unblank"]
    assert {one["owner_token"] for one in lit} == {1}
    assert len({one["exposure"] for one in lit}) == len(lit)


def test_another_hosts_lease_is_refused_before_the_instrument_is_touched(tmp_path: Path) -> None:
    with small_lab(tmp_path) as opened:
        url = opened.settings.database_url
    events = len(column_log(tmp_path))
    with owning_elsewhere(str(url.get_secret_value())), pytest.raises(BadInput, match="held by the night shift, proc"):
        small_lab(tmp_path).__enter__()
    assert len(column_log(tmp_path)) == events
    # What was taken on the way to the refusal was given back.
    assert not is_owned(tmp_path / "instruments" / NAME)


@contextmanager
def owning_elsewhere(url: str) -> Iterator[None]:
    engine = open_engine(url)
    with writer(engine) as session:
        token = lease.take(session, instrument=NAME, owner="the night shift", process=ELSEWHERE)
    yield
    with writer(engine) as session:
        lease.release(session, instrument=NAME, token=token)
    engine.dispose()


def test_a_session_whose_lease_was_taken_stops_before_its_next_exposure_and_touches_nothing(tmp_path: Path) -> None:
    told: list[Told] = []
    with small_lab(tmp_path) as opened:
        opened.on_told = told.append
        before = column_log(tmp_path)
        taken_elsewhere(opened)
        with pytest.raises(InstrumentTaken, match="taken over by the night shift, process 4711 on other-host"):
            run_plan(opened, small("1_overview.yaml", 16), with_prefect=False)
    # Not even parked: the new owner has done that, and may be exposing.
    assert column_log(tmp_path) == before
    assert [one.message for one in told if one.kind == "not parked"]
    with pytest.raises(BadInput, match="the night shift"):
        small_lab(tmp_path).__enter__()


def test_a_lease_that_is_lost_between_two_passes_ends_the_run_with_the_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with small_lab(tmp_path) as opened:
        monkeypatch.setattr("tasks.passes.failing_so_far", lambda *_: (taken_elsewhere(opened), ())[1])
        run = begin(opened, small("1_overview.yaml", 16, "exposure.passes=2"))
        with pytest.raises(InstrumentTaken, match="taken over by the night shift"):
            expose_all(opened, run)
        (first,) = booked(opened, run)
    assert first["delivered_e_per_a2"] is not None
    assert len([one for one in column_log(tmp_path) if one["event"] == "unblank"]) == 1


def test_a_stale_owner_is_refused_by_the_gate_although_its_bookings_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its database does not answer, so that only the column can know of the new owner."""
    with small_lab(tmp_path) as opened:
        monkeypatch.setattr(type(opened.ownership), "check", lambda _owner: None)
        opened.instrument.gate.see_owner(9)
        run = begin(opened, small("1_overview.yaml", 16))
        with pytest.raises(InstrumentTaken, match="token is 1, but that of owner 9 was seen"):
            expose_all(opened, run)
        (entry,) = booked(opened, run)
    assert entry["delivered_e_per_a2"] == 0
    assert [one for one in column_log(tmp_path) if one["event"] == "unblank"] == []


def test_a_column_that_has_seen_more_than_a_new_database_goes_on(tmp_path: Path) -> None:
    with small_lab(tmp_path) as opened:
        opened.instrument.gate.see_owner(41)
    (tmp_path / "nightbeam.db").unlink()
    with small_lab(tmp_path) as opened:
        assert opened.ownership.token == 42
        assert leases(opened) == [(42, None)]
        whole_run(opened, small("1_overview.yaml", 16))
    assert [one["owner_token"] for one in column_log(tmp_path) if one["event"] == "unblank"] == [42]


def test_with_the_database_away_a_lease_is_held_and_none_is_taken(tmp_path: Path) -> None:
    with small_lab(tmp_path) as opened:
        with away(opened):
            standing = opened.ownership.check()
            assert standing.state == "away"
            assert "held with token 1, cannot renew now: database" in standing.words
        assert opened.ownership.check().state == "held"


@contextmanager
def away(opened: Lab) -> Iterator[None]:
    """The database cannot be written: SQLite says that the file is read-only."""

    def read_only(connection: Any, *_: object) -> None:
        connection.execute("PRAGMA query_only = ON")

    def begin(connection: Any) -> None:
        read_only(connection.connection.dbapi_connection)

    event.listen(opened.engine, "begin", begin)
    try:
        yield
    finally:
        event.remove(opened.engine, "begin", begin)


def test_the_keeper_renews_and_notices_a_loss(tmp_path: Path) -> None:
    looks = 0
    with small_lab(tmp_path) as opened:

        def ended_within(_seconds: float) -> bool:
            nonlocal looks
            looks += 1
            if looks == 3:
                taken_elsewhere(opened)
            return looks > 3

        opened.ownership.keep(ended_within)
        assert "taken over by the night shift" in opened.ownership.lost
        with writer(opened.engine) as session:
            lease.release(session, instrument=NAME, token=2)


def test_a_dose_lease_without_an_owner_is_below_every_owner(tmp_path: Path) -> None:
    with small_lab(tmp_path) as opened, pytest.raises(DoseRefused, match="owner's token is 0"):
        opened.instrument.gate.unblank(now_lease(token=500))


def test_one_process_does_not_hold_an_instrument_twice(tmp_path: Path) -> None:
    """From two homes, so that the kernel's lock lets both in, with one database."""
    with small_lab(tmp_path) as opened, pytest.raises(BadInput, match="held by"), owning(opened.engine, NAME, print):
        pass
