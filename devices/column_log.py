"""A column's append-only log: what the beam was told, for whoever has to know it after the owner has died.

JSON lines; every entry has ``event``, ``simulated_s`` (the instrument's clock) and ``wall``. Of consecutive ``blank``
entries the last one says when the beam went off.
"""

import json
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

Entry = dict[str, Any]


class ColumnLog:
    """One process's view of the log: what it appends, and what is new since it last looked."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._path = folder / "column.jsonl"
        self._read = 0
        self._append_text("" if self._whole() else "\n")

    def append(self, event: str, simulated_s: float, **facts: object) -> None:
        """Write one entry; a single write, so that entries of several processes never mix."""
        entry = {"event": event, "simulated_s": simulated_s, "wall": datetime.now(UTC).isoformat(), **facts}
        self._append_text(json.dumps(entry, allow_nan=False) + "\n")

    def news(self) -> list[Entry]:
        """Entries since the last call, one's own included; a line that a killed process left torn is not one."""
        with self._path.open("rb") as file:
            file.seek(self._read)
            text = file.read()
        whole = text.rfind(b"\n") + 1
        self._read += whole
        return [entry for line in text[:whole].splitlines() if (entry := _parsed(line)) is not None]

    def _append_text(self, text: str) -> None:
        descriptor = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        try:
            os.write(descriptor, text.encode())
        finally:
            os.close(descriptor)

    def _whole(self) -> bool:
        return not self._path.exists() or not (text := self._path.read_bytes()) or text.endswith(b"\n")


def _parsed(line: bytes) -> Entry | None:
    try:
        entry = json.loads(line)
    except ValueError:
        return None
    return entry if isinstance(entry, dict) and "event" in entry else None
