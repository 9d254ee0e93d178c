"""The check that a second process makes an instrument safe while the first has it, and that second process."""

import json
import os
import subprocess
import sys
import time
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

from devices.conformance.subject import Fails, Subject, applies, changes, need
from devices.protocols import Instrument, Watchable
from devices.registry import GROUP
from devices.safety import SafeLevel, make_safe
from stem4d.instrument import InstrumentFile

SAFE_WITHIN_S = 5.0
"""What a watchdog has, from the death of an owner to a blanked beam."""
STARTS_WITHIN_S = 60.0


def another_process_makes_it_safe(subject: Subject, instrument: Instrument) -> None:
    """A process of its own opens the instrument, which changes nothing, and makes it safe twice: the beam is off."""
    if not isinstance(instrument, Watchable):
        raise Fails("it does not say who can make it safe when its owner has died (devices.protocols.Watchable)")
    need(instrument.watched_by != "nobody", "it says that nobody can make it safe when its owner has died")
    applies(instrument.watched_by == "another process", "it says that nobody is needed to make it safe")
    if subject.settings:
        instrument.column.prepare(subject.settings[0])
    before = instrument.column.snapshot() if subject.settings else ()
    if subject.may_unblank:
        if subject.positions:
            instrument.stage.go_to(subject.positions[0])
        instrument.gate.unblank(subject.lease(instrument))
    told = _elsewhere(subject)
    blanked = instrument.gate.is_blanked()
    need(told["found_blanked"] is not True or not subject.may_unblank, "opening it a second time blanked the beam")
    for words in told["trouble"]:
        need(not words, f"another process could not make it safe: {words}")
    need(blanked in (True, None), "another process made it safe, and the gate reads the beam on")
    slowest_s = max(told["took_s"])
    need(slowest_s <= SAFE_WITHIN_S, f"making it safe took {slowest_s:.1f} s; {SAFE_WITHIN_S:g} s are allowed")
    if subject.settings:
        changed = changes(before, instrument.column.snapshot())
        need(not changed, f"another process that made it safe changed the column: {'; '.join(changed)}")


def _elsewhere(subject: Subject) -> dict[str, Any]:
    paths = (os.path.abspath(path) for path in sys.path)
    question = {
        "driver": subject.driver,
        "file": subject.file.model_dump(mode="json"),
        "home": str(subject.home.absolute()),
    }
    try:
        done = subprocess.run(
            [sys.executable, "-P", "-m", "devices.conformance.elsewhere"],
            input=json.dumps(question),
            capture_output=True,
            text=True,
            timeout=STARTS_WITHIN_S,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
        )
    except subprocess.TimeoutExpired:
        need(False, f"another process did not make it safe within {STARTS_WITHIN_S:g} s")
        raise
    try:
        told: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    except (IndexError, ValueError):
        need(False, f"another process could not open it: {done.stderr[-2000:] or done.stdout[-2000:]}")
        raise
    return told


def _main() -> None:
    asked = json.loads(sys.stdin.read())
    opened = EntryPoint("elsewhere", asked["driver"], GROUP).load()
    file = InstrumentFile.model_validate(asked["file"], strict=False)
    instrument: Instrument = opened(file, Path(asked["home"]))
    told: dict[str, Any] = {"found_blanked": instrument.gate.is_blanked(), "trouble": [], "took_s": []}
    for _ in range(2):
        began_s = time.monotonic()
        report = make_safe(instrument, SafeLevel.PARK, "a check from another process")
        told["took_s"].append(time.monotonic() - began_s)
        told["trouble"].append(report.words)
    if isinstance(instrument, Watchable):
        instrument.leave()
    print(json.dumps(told))


if __name__ == "__main__":
    _main()
