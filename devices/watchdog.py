"""The process that makes an instrument safe when its owner dies or hangs: ``python -m devices.watchdog FILE.toml``.

Started by `devices.guard`. On standard input come words, a line each: ``open`` when the owner has the instrument,
``beat`` twice a second from then on, ``look`` before the beam is let through, ``done`` when nothing is left to watch.
Where that ends without ``done``, or no word comes for two seconds, the beam is blanked, the scan stopped, the detector
disarmed. On standard output go lines of JSON with one key: ``ready``, ``beat``, ``seen``, ``trouble`` or ``acted``.
"""

import json
import os
import select
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

from devices import safety_log
from devices.heartbeat import BEAT_S, LATE_S, Silence
from devices.lease import is_owned
from devices.protocols import Instrument
from devices.registry import open_instrument
from devices.safety import SafeLevel, make_safe
from stem4d.instrument import InstrumentFile
from storage.crash import crash_point
from storage.documents import load_model

AGAIN_S = 1.0
GIVE_UP_S = 60.0
"""How long what did not work is tried again: an instrument whose line is down may come back."""

GONE, LATE = "its owner ended without a word", f"its owner said nothing for {LATE_S:g} s"

Say = Callable[[str, object], None]


def watch(heard: int, say: Say, opened: Callable[[], Instrument], folder: Path) -> None:
    """Follow an owner's words until it is done; where it is not, make the instrument safe and record that.

    Parameters
    ----------
    heard : int
        Descriptor that the owner's words come from.
    say : callable
        Takes what the owner is to hear.
    opened : callable
        Opens a connection to the instrument; called when the owner is in session.
    folder : Path
        The instrument's, for the report.
    """
    words = _words(heard)
    if next(words, GONE) != "open":
        return  # it never had the instrument
    crash_point("watchdog.open")
    try:
        instrument = opened()
    except Exception as error:  # noqa: BLE001 - whatever a driver raises, the owner has to hear why it is not watched
        say("trouble", str(error))
        return
    say("ready", os.getpid())
    crash_point("watchdog.ready")
    for word in words:
        match word:
            case "beat":
                say("beat", 0)
                crash_point("watchdog.beat")
            case "look":
                crash_point("watchdog.look")
                _look(instrument, say)
            case "done":
                return
            case _:
                crash_point("watchdog.act")
                _act(instrument, say, folder, word)
                return


def _words(heard: int) -> Iterator[str]:
    """The owner's words, and in the end `GONE` or `LATE`. Before the second word there is no time limit."""
    text = b""
    silence: Silence | None = None
    while True:
        if not select.select([heard], [], [], BEAT_S)[0]:
            if silence is not None and silence.late():
                yield LATE
                return
            continue
        came = os.read(heard, 4096)
        if not came:
            yield GONE
            return
        *lines, text = (text + came).split(b"\n")
        for line in lines:
            if silence is not None:
                silence.heard()
            yield line.decode(errors="replace")
            # What was done about a word is no silence of the owner's.
            silence = silence or Silence()
            silence.heard()


def _look(instrument: Instrument, say: Say) -> None:
    """Whether the instrument can be reached at this moment: only then may its beam be let through."""
    try:
        instrument.gate.is_blanked()
    except Exception as error:  # noqa: BLE001 - as when it is opened
        say("trouble", str(error))
    else:
        say("seen", 0)


def _act(instrument: Instrument, say: Say, folder: Path, reason: str) -> None:
    """Make safe, and again where that did not work, until a new owner is there to do it."""
    began_s = time.monotonic()
    report = make_safe(instrument, SafeLevel.PARK, reason)
    say("acted", reason)
    trouble = [safety_log.record(folder, "watchdog", report)]
    while not report.safe and time.monotonic() - began_s < GIVE_UP_S:
        time.sleep(AGAIN_S)
        if reason == GONE and is_owned(folder):
            break
        before, report = report, make_safe(instrument, SafeLevel.PARK, f"{reason}; tried again")
        if report.steps != before.steps:
            trouble.append(safety_log.record(folder, "watchdog", report))
    for text in filter(None, (*trouble, report.words)):
        print(text, file=sys.stderr, flush=True)


def _say_on(descriptor: int) -> Say:
    """Words for an owner who may be dead, or hang and read none of them."""
    os.set_blocking(descriptor, False)

    def say(kind: str, content: object) -> None:
        with suppress(OSError):
            os.write(descriptor, (json.dumps({kind: content}) + "\n").encode())

    return say


def main(path: str) -> None:
    """Watch the instrument of a file; its home is ``NIGHTBEAM_HOME``."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # it ends with its owner, and after it
    crash_point("watchdog.start")
    home, say = Path(os.environ["NIGHTBEAM_HOME"]), _say_on(sys.stdout.fileno())
    try:
        file = load_model(Path(path), InstrumentFile)
        watch(sys.stdin.fileno(), say, lambda: open_instrument(file, home), home / "instruments" / file.name)
    except Exception as error:
        say("trouble", f"{type(error).__name__}: {error}")
        raise
    # At once: a connection that hangs must not keep it.
    sys.stderr.flush()
    os._exit(0)


if __name__ == "__main__":
    main(sys.argv[1])
