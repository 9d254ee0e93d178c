"""Many real processes that all want one instrument at the same moment, round after round."""

import multiprocessing
import os
import time
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

from db.connect import connect
from db.engine import writer
from db.errors import DatabaseAway
from db.lease import release, take
from devices.lease import owned
from stem4d.errors import BadInput
from storage.processes import this_process

INSTRUMENT = "contested"


class Races(NamedTuple):
    """What came of all rounds."""

    winners: list[list[int]]
    """Tokens of those who got it, by round."""
    refused: Counter[str]
    """What the others were told: the first word after ``held by``, or that the database was away."""
    seconds: float


def race(url: str, folder: Path, processes: int, rounds: int, *, on_one_host: bool) -> Races:
    """Let processes take an instrument ``rounds`` times; in every second one the winner leaves without a word.

    ``on_one_host`` is with the kernel's lock as the first gate; without it they stand for several hosts.
    """
    began_s = time.monotonic()
    context = multiprocessing.get_context("fork")
    barrier, answers = context.Barrier(processes), context.SimpleQueue()
    runners = [
        context.Process(target=_take_part, args=(url, folder, rounds, on_one_host, barrier, answers))
        for _ in range(processes)
    ]
    for each in runners:
        each.start()
    told = [answers.get() for _ in range(processes * rounds)]
    for each in runners:
        each.join(30)
    assert [each.exitcode for each in runners] == [0] * processes
    winners: list[list[int]] = [[] for _ in range(rounds)]
    refused: Counter[str] = Counter()
    for number, token, words in told:
        if token:
            winners[number].append(token)
        else:
            refused[words] += 1
    return Races(winners, refused, time.monotonic() - began_s)


def _take_part(url: str, folder: Path, rounds: int, on_one_host: bool, barrier: Any, answers: Any) -> None:
    engine = connect(url)  # after the fork: connections are nobody's to share
    for number in range(rounds):
        silent = number % 2 == 1
        barrier.wait(60)
        try:
            if on_one_host:
                with owned(INSTRUMENT, folder):
                    _hold(engine, number, silent, barrier, answers)
            else:
                _hold(engine, number, silent, barrier, answers)
        except BadInput as error:
            answers.put((number, 0, error.limit.partition("held by ")[2].split()[0]))
            barrier.wait(60)
        except DatabaseAway:
            answers.put((number, 0, "away"))
            barrier.wait(60)
        barrier.wait(60)
    engine.dispose()
    os._exit(0)  # nothing of the tests' process is to be closed here


def _hold(engine: Any, number: int, silent: bool, barrier: Any, answers: Any) -> None:
    """Take it, keep it until everybody has been refused, and give it back or not."""
    with writer(engine) as session:
        token = take(
            session,
            instrument=INSTRUMENT,
            owner=f"runner-{os.getpid()}",
            process=this_process(),
            # One that leaves without a word has expired by the next round, and its process cannot be looked at.
            lasts_s=1.0 if silent else 600.0,
            lives=lambda _process: None,
        )
    answers.put((number, token, ""))
    barrier.wait(60)
    if silent:
        time.sleep(1.05)  # the database's own clock has to pass the end; nothing else can make it
        return
    with writer(engine) as session:
        release(session, instrument=INSTRUMENT, token=token)
