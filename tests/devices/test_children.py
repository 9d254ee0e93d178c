"""A process is known by its number and its beginning, so that a later one of its number is never taken for it."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from devices.children import Children
from storage.processes import ProcessMark, end, lives, mark_of, this_process


@contextmanager
def sleeper() -> Iterator["subprocess.Popen[bytes]"]:
    """A process that waits to be ended."""
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    try:
        yield child
    finally:
        child.kill()
        child.wait()
        assert child.stdin is not None
        child.stdin.close()


def test_this_process_lives_and_is_always_the_same() -> None:
    assert lives(this_process()) is True
    assert this_process() == this_process()


def test_one_that_has_ended_is_dead_also_while_nobody_has_asked_for_it() -> None:
    with sleeper() as child:
        mark = mark_of(child.pid)
        assert lives(mark) is True
        child.kill()
        child.wait()
        assert lives(mark) is False


def test_another_host_and_another_space_of_numbers_cannot_be_told() -> None:
    mine = this_process()
    assert lives(replace(mine, host="elsewhere")) is None
    boot, _, rest = mine.began.partition(".")
    assert lives(replace(mine, began=f"{boot}.1:{rest.rpartition(':')[2]}")) is None
    assert lives(ProcessMark(mine.host, mine.pid, "")) is None


def test_what_ran_before_the_host_was_started_anew_is_dead() -> None:
    mine = this_process()
    assert lives(replace(mine, began=f"0123456789ab.{mine.began.partition('.')[2]}")) is False


def test_a_later_process_of_the_number_is_left_alone() -> None:
    with sleeper() as child:
        mark = mark_of(child.pid)
        space, _, ticks = mark.began.rpartition(":")
        earlier = replace(mark, began=f"{space}:{int(ticks) - 1}")
        assert lives(earlier) is False
        assert not end(earlier)
        assert child.poll() is None
        assert end(mark)
        assert child.wait(10) < 0
        assert not end(mark)


def test_the_next_owner_ends_what_outlived_the_last_one_and_nothing_else(tmp_path: Path) -> None:
    with sleeper() as left, sleeper() as other:
        Children(tmp_path).remember(left.pid, "the acquisition")
        with (tmp_path / "children.jsonl").open("a") as file:
            file.write('{"what": "torn", "pid"\n{"pid": 1}\n')
        (said,) = Children(tmp_path).end_leftovers()
        assert said == f"the acquisition, process {left.pid}, had outlived its owner and was ended"
        assert left.wait(10) < 0
        assert other.poll() is None
    assert Children(tmp_path).end_leftovers() == ()
