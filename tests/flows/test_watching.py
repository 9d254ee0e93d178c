"""Watched folders: what starts something and what does not, once each, whatever goes away in between."""

import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from flows import watching
from flows.reached import NoApi
from flows.watching import Watching, watch
from stem4d.errors import BadInput
from storage.settings import Settings
from storage.triggers import Watch
from storage.watched import Remembered


class Desk:
    """Stands for Prefect: takes what is asked, gives the same run for the same key, and may be away."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, dict[str, Any], str]] = []
        self.runs: dict[tuple[str, str], str] = {}
        self.away: Exception | None = None
        self.in_vain = 0
        self.told: list[str] = []
        self.now_s = 100.0
        self.met = threading.Event()

    def submit(self, deployment: str, parameters: dict[str, Any], *, source: str, key: str) -> str:
        assert source == "file"
        if self.away is not None:
            self.in_vain += 1
            raise self.away
        self.asked.append((deployment, parameters, key))
        self.met.set()
        return self.runs.setdefault((deployment, key), f"run-{len(self.runs)}")

    @property
    def paths(self) -> list[str]:
        return [Path(parameters["path"]).name for _deployment, parameters, _key in self.asked]


@pytest.fixture
def desk() -> Desk:
    return Desk()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "in"
    made.mkdir()
    return made


def watching_of(desk: Desk, folder: Path, **settings: Any) -> Watching:
    """A watch as a start of the program makes it, on one home."""
    document = {"folder": folder, "deployment": "reanalyse/reanalyse", "parameters": {"path": "{path}"}, **settings}
    one = Watch(**document)
    return Watching(one, Remembered(folder.parent, one), desk.submit, lambda: desk.now_s, desk.told.append)


def settle(desk: Desk, one: Watching) -> None:
    """Two looks, with the time between them that a file is given."""
    one.look()
    desk.now_s += 11
    one.look()


def test_a_new_file_starts_once_when_it_has_settled(desk: Desk, folder: Path) -> None:
    one = watching_of(desk, folder, parameters={"path": "{path}", "more": ["{path}.log", {"deep": "{path}"}, 3]})
    one.look()
    path = folder / "scan.h5"
    path.write_bytes(b"frames")
    one.look()
    desk.now_s += 9.9
    one.look()
    assert desk.asked == []
    desk.now_s += 0.1
    one.look()
    one.look()
    ((deployment, parameters, key),) = desk.asked
    assert deployment == "reanalyse/reanalyse"
    assert parameters == {"path": str(path), "more": [f"{path}.log", {"deep": str(path)}, 3]}
    assert key.startswith("scan.h5 ")
    assert [line for line in desk.told if "scan.h5 started reanalyse/reanalyse, flow run run-0" in line]


def test_a_file_that_grows_is_waited_for(desk: Desk, folder: Path) -> None:
    one = watching_of(desk, folder)
    one.look()
    for size in range(1, 5):
        (folder / "scan.h5").write_bytes(b"x" * size)
        one.look()
        desk.now_s += 8
    assert desk.asked == []
    settle(desk, one)
    assert desk.paths == ["scan.h5"]
    (folder / "scan.h5").write_bytes(b"another scan of this name")
    settle(desk, one)
    assert desk.paths == ["scan.h5", "scan.h5"]
    assert len(desk.runs) == 2


def test_what_was_there_before_the_first_start_starts_nothing(desk: Desk, folder: Path) -> None:
    for number in range(300):
        (folder / f"old{number}").write_bytes(b"")
    settle(desk, watching_of(desk, folder))
    assert desk.asked == []
    assert any("300 files are there already" in line for line in desk.told)
    (folder / "new").write_bytes(b"")
    again = watching_of(desk, folder)  # the program is started anew, and the file came meanwhile
    settle(desk, again)
    settle(desk, watching_of(desk, folder))
    assert desk.paths == ["new"]


def test_what_is_there_already_starts_where_that_is_wanted(
    desk: Desk, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watching, "MOST_ASKED", 2)
    for number in range(5):
        path = folder / f"old{number}"
        path.write_bytes(b"")
        os.utime(path, ns=(0, number))
    one = watching_of(desk, folder, existing=True)
    settle(desk, one)
    assert desk.paths == ["old0", "old1"]  # the oldest first, and so many in one look
    settle(desk, watching_of(desk, folder, existing=True))
    assert desk.paths == ["old0", "old1", "old2", "old3"]


def test_only_ordinary_files_of_the_pattern(desk: Desk, folder: Path) -> None:
    one = watching_of(desk, folder, pattern="*.h5*")
    one.look()
    (folder / ".hidden.h5").write_bytes(b"")
    (folder / "being.h5.partial").write_bytes(b"")
    (folder / "notes.txt").write_bytes(b"")
    (folder / "link.h5").symlink_to(folder / "notes.txt")
    (folder / "folder.h5").mkdir()
    (folder / "folder.h5" / "inner.h5").write_bytes(b"")
    os.mkfifo(folder / "pipe.h5")
    (folder / "good.h5").write_bytes(b"")
    settle(desk, one)
    assert desk.paths == ["good.h5"]


def test_a_name_that_is_no_text_or_has_a_line_end(desk: Desk, folder: Path) -> None:
    from flows.submit import _refuse

    def strict(deployment: str, parameters: dict[str, Any], *, source: str, key: str) -> str:
        _refuse(deployment, parameters, source, key)
        return desk.submit(deployment, parameters, source=source, key=key)

    one = watching_of(desk, folder)
    one.submit = strict
    one.look()
    (folder / os.fsdecode(b"\xff.h5")).write_bytes(b"")
    (folder / "a\nforged: line").write_bytes(b"")
    settle(desk, one)
    assert desk.paths == ["a\nforged: line"]
    assert all(line.isprintable() for line in desk.told)
    assert sum("Unicode" in line for line in desk.told) == 1
    settle(desk, one)
    assert sum("Unicode" in line for line in desk.told) == 1


def test_nothing_is_lost_while_prefect_is_away(desk: Desk, folder: Path) -> None:
    one = watching_of(desk, folder)
    one.look()
    desk.away = NoApi("there is no Prefect API to ask")
    for number in range(3):
        (folder / f"scan{number}").write_bytes(b"")
    settle(desk, one)
    for _ in range(50):
        one.look()
        desk.now_s += 2
    assert sum("no Prefect API" in line for line in desk.told) == 1
    assert 5 <= desk.in_vain <= 8  # after 2, 4, 8, 16 and 30 s, for all files together
    again = watching_of(desk, folder)  # a restart forgets nothing either
    settle(desk, again)
    desk.away = None
    for _ in range(3):
        desk.now_s += watching.LONGEST_AWAY_S
        again.look()
    assert sorted(desk.paths) == ["scan0", "scan1", "scan2"]
    assert any("is watched again" in line for line in desk.told)


def test_one_file_that_is_refused_holds_up_no_other(desk: Desk, folder: Path) -> None:
    one = watching_of(desk, folder)
    one.look()
    (folder / "bad").write_bytes(b"")
    plain = desk.submit

    def picky(deployment: str, parameters: dict[str, Any], *, source: str, key: str) -> str:
        if parameters["path"].endswith("bad"):
            raise BadInput(field="path", value="bad", limit="has to end in .h5")
        return plain(deployment, parameters, source=source, key=key)

    one.submit = picky
    settle(desk, one)
    (folder / "good").write_bytes(b"")
    settle(desk, one)
    assert desk.paths == ["good"]
    one.submit = plain
    desk.now_s += watching.LONGEST_WAIT_S
    one.look()
    assert desk.paths == ["good", "bad"]


def test_a_deployment_that_is_not_there_is_asked_for_again(desk: Desk, folder: Path) -> None:
    one = watching_of(desk, folder)
    one.look()
    (folder / "scan").write_bytes(b"")
    desk.away = BadInput(field="deployment", value="reanalyse/reanalyse", limit="Prefect has no such deployment")
    settle(desk, one)
    desk.away = None
    desk.now_s += watching.LONGEST_AWAY_S
    one.look()
    assert desk.paths == ["scan"]


def test_a_folder_that_is_away_is_told_once_and_watched_again(desk: Desk, folder: Path) -> None:
    one = watching_of(desk, folder)
    (folder / "old").write_bytes(b"")
    one.look()
    aside = folder.with_name("aside")
    folder.rename(aside)
    for _ in range(5):
        one.look()
    assert sum("cannot be listed" in line for line in desk.told) == 1
    (aside / "meanwhile").write_bytes(b"")
    aside.rename(folder)
    settle(desk, one)
    assert desk.paths == ["meanwhile"]
    assert desk.told[-2].endswith("is watched again") or desk.told[-1].endswith("is watched again")


@pytest.mark.parametrize("mounted_first", [True, False])
def test_a_disk_that_is_not_mounted_is_another_folder(desk: Desk, folder: Path, mounted_first: bool) -> None:
    """Where it is not mounted an empty folder is in its place; its files are no news when it is back."""
    disk, empty = folder.with_name("disk"), folder.with_name("empty")
    disk.mkdir()
    empty.mkdir()
    folder.rmdir()
    for number in range(20):
        (disk / f"old{number}").write_bytes(b"")

    def mount(what: Path) -> Callable[[], None]:
        what.rename(folder)
        return lambda: folder.rename(what) and None

    if mounted_first:
        take_away = mount(disk)
        settle(desk, watching_of(desk, folder))
        take_away()
    take_away = mount(empty)
    one = watching_of(desk, folder)
    settle(desk, one)
    take_away()
    mount(disk)
    settle(desk, one)
    assert desk.asked == []
    (folder / "new").write_bytes(b"")
    settle(desk, one)
    assert desk.paths == ["new"]


def test_a_folder_with_too_many_files_is_told_and_left(
    desk: Desk, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watching, "MOST_FILES", 5)
    one = watching_of(desk, folder)
    one.look()
    for number in range(5):
        (folder / f"scan{number}").write_bytes(b"")
    (folder / "one more").write_bytes(b"")
    settle(desk, one)
    assert desk.asked == []
    assert sum("more than 5 files" in line for line in desk.told) == 1
    (folder / "one more").unlink()
    settle(desk, one)
    assert len(desk.asked) == 5


def test_what_was_cut_short_in_the_memory_is_asked_again_by_the_same_key(desk: Desk, folder: Path) -> None:
    one = watching_of(desk, folder)
    one.look()
    for name in ("a", "b"):
        (folder / name).write_bytes(b"")
    settle(desk, one)
    memory = one.remembered.path
    memory.write_text(memory.read_text()[:-5])  # the machine died while the last line was written
    settle(desk, watching_of(desk, folder))
    assert len(desk.asked) == 3
    assert len(desk.runs) == 2
    settle(desk, watching_of(desk, folder))
    assert len(desk.asked) == 4 - 1


def test_a_disk_of_files_that_are_wanted_starts_them_when_it_is_mounted(desk: Desk, folder: Path) -> None:
    settle(desk, watching_of(desk, folder, existing=True))
    folder.rename(folder.with_name("empty"))
    folder.mkdir()
    (folder / "old").write_bytes(b"")
    settle(desk, watching_of(desk, folder, existing=True))
    assert desk.paths == ["old"]


def test_the_memory_does_not_grow_for_ever_and_keeps_what_is_there(
    desk: Desk, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("storage.watched.MOST_KEPT", 10)
    (folder / "old").write_bytes(b"")
    one = watching_of(desk, folder)
    one.look()
    for number in range(40):
        path = folder / f"scan{number}"
        path.write_bytes(b"")
        settle(desk, one)
        path.unlink()
    assert len(desk.asked) == 40
    assert len(one.remembered.path.read_text().split()) <= 14
    settle(desk, watching_of(desk, folder))
    assert len(desk.asked) == 40


def test_folders_are_watched_until_it_is_stopped(desk: Desk, folder: Path, tmp_path: Path) -> None:
    document = {"folder": str(folder), "deployment": "a/b", "parameters": {"path": "{path}"}, "settle_s": 0}
    away = {**document, "folder": str(tmp_path / "none")}
    settings = Settings(home=tmp_path, watch=(away, {**document, "existing": True}))
    (folder / "scan").write_bytes(b"")
    stop = threading.Event()
    thread = threading.Thread(
        target=watch, args=(settings, stop), kwargs={"submit": desk.submit, "tell": desk.told.append, "every_s": 0.01}
    )
    thread.start()
    assert desk.met.wait(20)
    stop.set()
    thread.join(20)
    assert not thread.is_alive()
    assert desk.paths == ["scan"]
    assert any("none: cannot be listed" in line for line in desk.told)
