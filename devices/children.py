"""Processes that an instrument's owner started, remembered so that the next owner can end those that outlived it."""

import json
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path

from storage.processes import ProcessMark, end, mark_of


class Children:
    """The list of an instrument's folder; only its owner writes it."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "children.jsonl"

    def remember(self, pid: int, what: str) -> None:
        """Note a process that was just started. A full disk is no reason not to start it: it ends with us anyway."""
        with suppress(OSError), self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"what": what, **asdict(mark_of(pid))}) + "\n")

    def end_leftovers(self) -> tuple[str, ...]:
        """Kill what the owners before this one left running, and forget all; says what was killed."""
        ended = []
        for line in self._lines():
            with suppress(ValueError, KeyError, TypeError):
                told = json.loads(line)
                mark = ProcessMark(str(told["host"]), int(told["pid"]), str(told["began"]))
                if end(mark):
                    ended.append(f"{told['what']}, process {mark.pid}, had outlived its owner and was ended")
        with suppress(OSError):
            self._path.unlink(missing_ok=True)
        return tuple(ended)

    def _lines(self) -> list[str]:
        try:
            return self._path.read_text(encoding="utf-8", errors="replace").splitlines()
        except OSError:
            return []
