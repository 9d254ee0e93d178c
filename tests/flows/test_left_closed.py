"""`nightbeam recover` without files: every instrument that nobody holds is closed, without opening one."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import typer

from db import lease, record
from db.dose import area_fluence, open_intent
from db.engine import Engine, open_engine, reader, writer
from db.questions.show import show_run
from devices.lease import owned
from flows.cli.files import recover
from flows.left import close_instruments
from stem4d.errors import BadInput
from storage.processes import ProcessMark
from storage.settings import Settings

NAME, TOKEN = "stem", 1
GONE = ProcessMark("other-host", 4711, "boot.1:5")


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    (tmp_path / "instruments" / NAME).mkdir(parents=True)
    return Settings(home=tmp_path)


@pytest.fixture
def engine(settings: Settings) -> Iterator[Engine]:
    engine = open_engine(settings.database_url.get_secret_value())
    yield engine
    engine.dispose()


def crash(engine: Engine, process: ProcessMark = GONE, lasts_s: float = 0.0) -> int:
    """What a run leaves that was killed in its first pass; gives its area."""
    with writer(engine) as session:
        lease.take(session, instrument=NAME, owner="ann (nightbeam run)", process=process, lasts_s=lasts_s)
        sample = record.register_sample(session, name="film")
        area = record.register_area(session, sample_id=sample, name="a1", fluence_budget_e_per_a2=100.0)
        plan = record.register_plan(session, name="p", canonical_json="{}")
        run = record.start_run(session, name="r1", plan_id=plan, area_id=area, instrument=NAME)
        open_intent(
            session,
            run_id=run,
            area_id=area,
            purpose="acquisition",
            token="r1/pass1",
            fluence_e_per_a2=60.0,
            owner_token=TOKEN,
        )
    return area


def log(settings: Settings, *events: dict[str, Any]) -> None:
    """The column's log of that session."""
    begun = {"event": "owner", "owner_token": TOKEN}
    common = {"simulated_s": 0.0, "wall": datetime.now(UTC).isoformat()}
    lines = [json.dumps(common | one) for one in (begun, *events)]
    (settings.instruments_folder / NAME / "column.jsonl").write_text("\n".join(lines) + "\n")


def left_e_per_a2(engine: Engine, area: int) -> float:
    with reader(engine) as session:
        return area_fluence(session, area_id=area).left_e_per_a2


def test_a_booking_whose_beam_was_never_on_is_given_back_with_its_origin(settings: Settings, engine: Engine) -> None:
    area = crash(engine)
    log(settings)
    assert left_e_per_a2(engine, area) == 40.0
    (closed,) = close_instruments(settings, engine, None)
    assert closed.trouble == ""
    assert closed.lines[0] == "r1 was left open by a process that died"
    assert "0 of 60 e/Å² are charged to a1; by the column's log the beam was never let through" in closed.lines[1]
    assert left_e_per_a2(engine, area) == 100.0
    with reader(engine) as session:
        shown = show_run(session, name="r1")
        assert lease.owners(session) == ()
    assert shown["state"] == "crashed"
    assert "ann (nightbeam run), process 4711 on other-host" in shown["exit_reason"]
    assert "upper bound, its end was not recorded" in shown["exposures"][0]["reason"]
    assert [one["kind"] for one in shown["events"]].count("dose bounded") == 1
    (again,) = close_instruments(settings, engine, None)
    assert again.lines == ()


def test_without_a_log_all_stays_charged(settings: Settings, engine: Engine) -> None:
    area = crash(engine)
    (closed,) = close_instruments(settings, engine, None)
    assert "60 of 60 e/Å²" in closed.lines[1]
    assert left_e_per_a2(engine, area) == 40.0


def test_an_instrument_whose_beam_is_on_is_left_to_who_can_blank_it(settings: Settings, engine: Engine) -> None:
    area = crash(engine)
    log(settings, {"event": "unblank", "area": "a1", "exposure": "r1/pass1", "owner_token": TOKEN})
    (closed,) = close_instruments(settings, engine, None)
    assert "its beam is ON, at a1" in closed.trouble
    assert "nightbeam recover -i stem.toml" in closed.trouble
    assert left_e_per_a2(engine, area) == 40.0


def test_an_instrument_that_is_held_is_left_alone(settings: Settings, engine: Engine) -> None:
    crash(engine, lasts_s=600.0)
    (there,) = close_instruments(settings, engine, None)
    assert "held by ann (nightbeam run), process 4711 on other-host" in there.trouble
    assert "nightbeam recover --take-over stem" in there.trouble
    with owned(NAME, settings.instruments_folder / NAME):
        (here,) = close_instruments(settings, engine, None)
    assert "held by process" in here.trouble
    # A person has seen that the other host is gone.
    (closed,) = close_instruments(settings, engine, NAME)
    assert closed.lines[0] == "r1 was left open by a process that died"


def test_an_instrument_that_was_never_used_cannot_be_taken_over(settings: Settings, engine: Engine) -> None:
    with pytest.raises(BadInput, match="never used here; known are: stem"):
        close_instruments(settings, engine, "steam")


def test_the_command_says_what_it_closed(
    settings: Settings, engine: Engine, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("NIGHTBEAM_HOME", str(settings.home))
    crash(engine)
    log(settings)

    with pytest.raises(typer.Exit) as left:
        recover(files=[], as_json=True)
    assert left.value.exit_code == 0
    (one,) = json.loads(capsys.readouterr().out)["instruments"]
    assert one["instrument"] == NAME
    assert len(one["closed"]) == 2
    with pytest.raises(typer.Exit):
        recover(files=[])
    assert capsys.readouterr().out == "stem: nothing was left open\n"
