"""What was done to make an instrument safe: ``safety.jsonl`` in its folder, append-only, for whoever comes next."""

import json
import os
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from devices.safety import SafeReport

FILE = "safety.jsonl"

Who = Literal["watchdog", "owner"]


def record(folder: Path, who: Who, report: SafeReport) -> str:
    """Add a report and have the disk acknowledge it; gives why that failed, empty where it did not."""
    return _append(
        folder,
        {
            "event": "made safe",
            "by": who,
            "pid": os.getpid(),
            "reason": report.reason,
            "level": report.level.name,
            "steps": [asdict(step) for step in report.steps],
            "beam_off": report.beam_off,
            "safe": report.safe,
        },
    )


def untold(folder: Path) -> tuple[str, ...]:
    """What watchdogs have done since somebody was last told, in words."""
    words: list[str] = []
    for entry in _entries(folder):
        if entry.get("event") == "told":
            words.clear()
        elif entry.get("by") == "watchdog":
            words.append(_words(entry))
    return tuple(words)


def told(folder: Path) -> str:
    """Note that somebody was told; gives why that failed, empty where it did not."""
    return _append(folder, {"event": "told", "pid": os.getpid()})


def _words(entry: dict[str, Any]) -> str:
    failed = [f"{step['name']}: {step['error']}" for step in entry.get("steps", ()) if step.get("error")]
    how = "the beam was off" if entry.get("beam_off") else "THE BEAM MAY HAVE STAYED ON"
    rest = f"; what did not work: {'; '.join(failed)}" if failed else ""
    return f"the watchdog made the instrument safe at {entry.get('at')} because {entry.get('reason')}: {how}{rest}"


def _entries(folder: Path) -> list[dict[str, Any]]:
    """Every whole line; one that a full disk left torn says nothing."""
    try:
        lines = (folder / FILE).read_bytes().splitlines()
    except OSError:
        return []
    entries = []
    for line in lines:
        try:
            entry = json.loads(line)
        except ValueError:
            continue
        if isinstance(entry, dict):
            entries.append(entry)
    return entries


def _append(folder: Path, facts: dict[str, Any]) -> str:
    line = json.dumps({"at": datetime.now(UTC).isoformat(timespec="milliseconds"), **facts})
    try:
        folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(folder / FILE, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            size = os.fstat(descriptor).st_size
            torn = size > 0 and os.pread(descriptor, 1, size - 1) != b"\n"
            os.write(descriptor, (("\n" if torn else "") + line + "\n").encode())
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        return f"{folder / FILE} could not be written: {error.strerror or error}"
    return ""
