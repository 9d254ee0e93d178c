"""Orders by files: each is taken once and answered, whatever else lies there; a status is whole or not there."""

import json
import os
import threading
from pathlib import Path

import pytest

from stem4d.errors import BadInput
from storage import orders


def test_an_order_is_taken_once_in_the_order_of_asking_and_answered(tmp_path: Path) -> None:
    asked = [
        orders.ask(tmp_path, "pause"),
        orders.ask(tmp_path, "skip", target="t1", by="ada"),
        orders.ask(tmp_path, "stop"),
    ]
    assert list(orders.waiting(tmp_path)) == asked
    assert orders.answer_to(tmp_path, asked[1]) is None
    orders.answer(tmp_path, asked[1], ok=False, words="no such target")
    assert list(orders.waiting(tmp_path)) == [asked[0], asked[2]]
    answer = orders.answer_to(tmp_path, asked[1])
    assert answer is not None
    assert (answer.ok, answer.words) == (False, "no such target")
    assert orders.withdraw(tmp_path, asked[0])
    assert not orders.withdraw(tmp_path, asked[1])
    assert list(orders.waiting(tmp_path)) == [asked[2]]


def test_many_who_ask_at_once_lose_nothing(tmp_path: Path) -> None:
    threads = [threading.Thread(target=lambda: orders.ask(tmp_path, "pause")) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    taken = orders.waiting(tmp_path)
    assert len({one.id for one in taken}) == 20


@pytest.mark.parametrize("text", ["", "{", "[]", '{"id": "x", "kind": "explode"}', "x" * 10_000])
def test_what_is_no_order_is_put_aside_and_holds_nothing_up(tmp_path: Path, text: str) -> None:
    good = orders.ask(tmp_path, "pause")
    bad = tmp_path / "orders" / "20260101-000000000000-0000000a.json"
    bad.write_text(text)
    (tmp_path / "orders" / "readme.txt").write_text("mine")
    assert orders.waiting(tmp_path) == (good,)
    assert not bad.exists()
    assert orders.waiting(tmp_path) == (good,)


def test_a_target_that_is_no_name_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="TARGET"):
        orders.ask(tmp_path, "skip", target="../x")
    assert list(tmp_path.iterdir()) == []


def test_answers_do_not_pile_up(tmp_path: Path) -> None:
    for _ in range(orders.KEPT_ANSWERS + 5):
        orders.answer(tmp_path, orders.ask(tmp_path, "pause"), ok=True, words="")
    assert len(list((tmp_path / "answers").iterdir())) == orders.KEPT_ANSWERS


def test_a_status_is_whole_or_none(tmp_path: Path) -> None:
    assert orders.read_status(tmp_path) is None
    orders.write_status(tmp_path, {"night": "n1"})
    assert orders.read_status(tmp_path) == {"night": "n1"}
    (tmp_path / "status.json").write_text("{")
    assert orders.read_status(tmp_path) is None
    (tmp_path / "status.json").write_text(json.dumps([1]))
    assert orders.read_status(tmp_path) is None


@pytest.mark.timeout(20)
def test_what_is_no_ordinary_file_is_put_aside_at_once(tmp_path: Path) -> None:
    order = orders.ask(tmp_path, "pause")
    folder = tmp_path / "orders"
    os.mkfifo(folder / "20261127-190000000000-deadbeef.json")
    (folder / "20261127-190000000001-deadbeef.json").symlink_to("/etc/hostname")
    (folder / "20261127-190000000002-deadbeef.json").mkdir()
    assert list(orders.waiting(tmp_path)) == [order]
    assert len(list(folder.glob("*.unreadable"))) == 3
    os.mkfifo(tmp_path / "status.json")
    assert orders.read_status(tmp_path) is None


def test_a_folder_that_cannot_be_looked_at_holds_no_orders(tmp_path: Path) -> None:
    (tmp_path / "orders").symlink_to("orders")
    assert orders.waiting(tmp_path) == ()


def test_who_asked_cannot_forge_a_line(tmp_path: Path) -> None:
    orders.ask(tmp_path, "pause", by="x\x1b[31m\nnight ended  FORGED\u202e")
    (taken,) = orders.waiting(tmp_path)
    assert taken.by == "x\\x1b[31m\\nnight ended  FORGED\\u202e"
