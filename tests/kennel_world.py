"""Watchdogs that run as threads of the tests' process: they do what the real one does, without a start of 0.5 s."""

import os
import threading
from contextlib import suppress
from pathlib import Path

from devices.kennel import Dog
from devices.protocols import Instrument, Watchable
from devices.registry import open_instrument
from devices.watchdog import _say_on, watch
from stem4d.instrument import InstrumentFile
from storage.documents import load_model


def spawn_thread(path: Path, home: Path, folder: Path) -> Dog:
    """In the place of `devices.kennel.spawn`."""
    heard, words = os.pipe()
    answers, told = os.pipe()
    opened: list[Instrument] = []

    def open_it() -> Instrument:
        opened.append(open_instrument(load_model(path, InstrumentFile), home))
        return opened[-1]

    def run() -> None:
        try:
            watch(heard, _say_on(told), open_it, folder)
        finally:
            for one in opened:
                assert isinstance(one, Watchable)
                one.leave()
            os.close(told)
            os.close(heard)

    thread = threading.Thread(target=run, daemon=True, name="watchdog-in-thread")
    thread.start()

    def close(_patiently: bool) -> None:
        with suppress(OSError):
            os.close(words)
        thread.join(10)
        assert not thread.is_alive()
        os.close(answers)

    return Dog(words, answers, lambda: "the watchdog, a thread, has ended", close)
