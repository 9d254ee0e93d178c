"""An instrument that somebody else has is waited for, and no longer than is wanted."""

from pathlib import Path

from db.engine import open_engine, writer
from db.lease import take
from devices.lease import owned
from flows.deployed.in_hand import wait_until_free
from storage.processes import ProcessMark
from storage.settings import Settings
from tasks.outbox import open_database

ELSEWHERE = ProcessMark("other-host", 4711, "boot.1:5")


def waited(settings: Settings, free_after: int = 99, minutes: float = 1.0) -> tuple[list[str], int]:
    """What is said, and how often it looked again, while this host's lock is held for some looks."""
    said: list[str] = []
    slept: list[float] = []
    engine = open_database(settings)
    holding = owned("stem", settings.instruments_folder / "stem")
    holding.__enter__()

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        if len(slept) == free_after:
            holding.__exit__(None, None, None)

    wait_until_free(settings, engine, "stem", minutes, said.append, sleep=sleep, clock=lambda: sum(slept))
    engine.dispose()
    if len(slept) < free_after:
        holding.__exit__(None, None, None)
    return said, len(slept)


def test_it_is_told_once_who_has_it_and_taken_when_it_is_free(tmp_path: Path) -> None:
    said, looks = waited(Settings(home=tmp_path), free_after=3)
    assert looks == 3
    (line,) = said
    assert line.startswith("waits for stem: held by process ")


def test_after_the_time_whoever_opens_it_says_who_has_it(tmp_path: Path) -> None:
    _said, looks = waited(Settings(home=tmp_path), minutes=0.5)
    assert looks == 15  # of 2 s each


def test_another_hosts_owner_is_seen_in_the_record(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path)
    open_database(settings).dispose()
    engine = open_engine(settings.database_url.get_secret_value())
    with writer(engine) as session:
        take(session, instrument="stem", owner="the night shift", process=ELSEWHERE)
    said: list[str] = []
    wait_until_free(settings, engine, "stem", 0.05, said.append, sleep=lambda _s: None, clock=iter(range(9)).__next__)
    engine.dispose()
    assert "the night shift, process 4711 on other-host" in said[0]
