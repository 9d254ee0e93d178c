"""A column's append-only log: what the beam was told, for whoever has to know it after the owner has died.

JSON lines; every entry has ``event``, ``simulated_s`` (the instrument's clock) and ``wall``. Of consecutive ``blank``
entries the last one says when the beam went off.
"""

import errno
import json
import os
from collections.abc import Iterator
from datetime import UTC, datetime
from math import isfinite
from pathlib import Path
from typing import Any, NoReturn

from stem4d.errors import BadInput, DeviceFault

Entry = dict[str, Any]


class ColumnLog:
    """One process's view of the log: what there was, and what it appends."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.path = folder / "column.jsonl"
        self._place = ""
        self._owed: list[str] = []
        """Entries that were kept and could not be written yet, oldest first."""
        self._torn = not self._whole()

    def append(self, entry: Entry) -> None:
        """Write one entry, and before it those that are owed; a single write, so that processes never mix.

        Raises
        ------
        DeviceFault
            Where the log cannot be written; the entry then did not happen.
        """
        try:
            self._write([*self._owed, _line(entry)])
        except OSError as error:
            raise DeviceFault(
                f"{self.path}: the log of the beam cannot be written ({_why(error)}); nothing was changed. Make room"
            ) from None
        self._owed.clear()

    def keep(self, entry: Entry) -> None:
        """Write an entry of something that happened already; where that fails it is owed. Never raises `OSError`."""
        self._owed.append(_line(entry))
        self.pay()

    def pay(self) -> str:
        """Write what is owed if there is room by now; gives why not, empty when nothing is owed any more."""
        if self._owed:
            try:
                self._write(self._owed)
            except OSError as error:
                return _why(error)
            self._owed.clear()
        return ""

    def entries(self) -> Iterator[Entry]:
        """Every entry so far; a line that a killed process or a full disk left torn is not one.

        Raises
        ------
        BadInput
            For a line that is not torn and not an entry.
        """
        yield from self._entries(self.path.read_bytes() if self.path.exists() else b"", "")

    def since(self, read_bytes: int) -> tuple[tuple[Entry, ...], int]:
        """Entries whose lines have ended after so many bytes, and how many bytes have been read then."""
        if not self.path.exists():
            return (), 0
        with self.path.open("rb") as file:
            file.seek(read_bytes)
            more = file.read()
        whole = more[: more.rfind(b"\n") + 1]
        after = f" after byte {read_bytes}" if read_bytes else ""
        return tuple(self._entries(whole, after)), read_bytes + len(whole)

    def _entries(self, text: bytes, after: str) -> Iterator[Entry]:
        for number, line in enumerate(text.split(b"\n"), 1):
            self._place = f"line {number}{after}"
            if line.strip() and not _torn(line):
                yield self._entry(line)

    def refuse(self, why: str) -> NoReturn:
        """Raise `BadInput` for the line that `entries` gave last."""
        raise BadInput(
            field=str(self.path),
            value=self._place,
            limit=f"not an entry of a column's log ({why})",
            remedy="See that the beam is blanked, then mend or remove that line; without the file all begins anew",
        )

    def _entry(self, line: bytes) -> Entry:
        try:
            entry = json.loads(line, parse_constant=_no_number)
        except RecursionError:
            self.refuse("nested too deeply")
        except ValueError as error:
            self.refuse(str(error))
        if not isinstance(entry, dict) or not isinstance(entry.get("event"), str):
            self.refuse("it has no event")
        at_s = entry.get("simulated_s")
        if isinstance(at_s, bool) or not isinstance(at_s, int | float) or not isfinite(at_s):
            self.refuse("simulated_s is not a time")
        return entry

    def _write(self, lines: list[str]) -> None:
        """Write all or, with `OSError`, nothing that anybody reads."""
        text = (("\n" if self._torn else "") + "".join(lines)).encode()
        descriptor = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        try:
            before, written = os.fstat(descriptor).st_size, 0
            try:
                while written < len(text):
                    written += os.write(descriptor, text[written:])
            except OSError:
                if written:
                    # If it cannot be cut off again, the next entry begins on a line of its own.
                    torn, self._torn = self._torn, True
                    os.ftruncate(descriptor, before)
                    self._torn = torn
                raise
            self._torn = False
        finally:
            os.close(descriptor)

    def _whole(self) -> bool:
        """Whether the last line has its end; without it the next entry begins a new one."""
        if not self.path.exists() or not self.path.stat().st_size:
            return True
        with self.path.open("rb") as file:
            file.seek(-1, os.SEEK_END)
            return file.read(1) == b"\n"


def entry_of(event: str, simulated_s: float, facts: dict[str, object]) -> Entry:
    """An entry as of now."""
    return {"event": event, "simulated_s": simulated_s, "wall": datetime.now(UTC).isoformat(), **facts}


def beam_on(folder: Path) -> str | None:
    """Where and since when the beam of an instrument's folder is on, as its log has it; None where it is off.

    Raises
    ------
    BadInput
        For a log that cannot be read.
    """
    on: Entry | None = None
    for entry in ColumnLog(folder).entries():
        if entry["event"] == "unblank":
            on = on or entry
        elif entry["event"] in ("blank", "valves"):
            on = None
    return f"at {on.get('area', 'an unknown place')} since {on.get('wall', 'nobody knows when')}" if on else None


def _no_number(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a figure")


def _line(entry: Entry) -> str:
    return json.dumps(entry, allow_nan=False) + "\n"


def _torn(line: bytes) -> bool:
    """Whether a line is the beginning of one entry: it opens more than it closes."""
    return line.startswith(b"{") and line.count(b"{") > line.count(b"}") and line.count(b'"event"') <= 1


def _why(error: OSError) -> str:
    return "the disk is full" if error.errno == errno.ENOSPC else str(error.strerror)
