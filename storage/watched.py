"""Which files of a watched folder were dealt with: a line each in a file of the home, so that no restart asks again."""

import json
from collections.abc import Collection, Iterable
from pathlib import Path

from stem4d.model import sha256_of
from storage.disk import replace_text
from storage.triggers import Watch

MOST_KEPT = 200_000
"""Files that are remembered of a folder (7 MB); beyond it half of those are forgotten that lie there no more."""
MOST_FOLDERS = 16
_MARK = 32


class Remembered:
    """The files of one watch, each by a mark of 32 characters, and the folders by their inodes that were there.

    A line is written after what it says has happened, so a crash between the two repeats that; a line that was cut
    short counts for nothing.
    """

    def __init__(self, home: Path, watch: Watch) -> None:
        what = json.dumps([str(watch.folder), watch.pattern, watch.deployment])
        self.path = home / "watched" / f"{sha256_of(what)[:16]}.txt"
        self.inodes: tuple[int, ...] = ()
        """None where the folder was never listed: a disk that is not mounted leaves another folder in its place."""
        self._marks: dict[str, None] = {}
        try:
            head, *lines = self.path.read_text(encoding="ascii", errors="replace").split("\n")
            self.inodes = tuple(int(one) for one in head.split())
        except (FileNotFoundError, ValueError):
            return
        self._marks = dict.fromkeys(line for line in lines if len(line) == _MARK)

    def __contains__(self, mark: str) -> bool:
        return mark in self._marks

    def any_of(self, marks: Iterable[str]) -> bool:
        """Whether one of these is remembered."""
        return any(mark in self._marks for mark in marks)

    def begin(self, inode: int, marks: Collection[str]) -> None:
        """Remember a folder, and what is in it, beside all that was remembered."""
        self._keep((*self.inodes, inode)[-MOST_FOLDERS:], dict.fromkeys([*self._marks, *marks]))

    def tidy(self, there: Collection[str]) -> None:
        """Forget the oldest of too many files, none of those that lie there; nothing where no known one does."""
        if len(self._marks) <= MOST_KEPT or not self.any_of(there):
            return
        present = set(there)
        gone = [mark for mark in self._marks if mark not in present]
        forgotten = set(gone[: len(gone) // 2])
        self._keep(self.inodes, {mark: None for mark in self._marks if mark not in forgotten})

    def _keep(self, inodes: tuple[int, ...], marks: dict[str, None]) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        replace_text(self.path, "\n".join([" ".join(map(str, inodes)), *marks, ""]))
        self.inodes, self._marks = inodes, marks

    def add(self, mark: str) -> None:
        """Remember one more file."""
        with self.path.open("a", encoding="ascii") as file:
            file.write(f"\n{mark}\n")  # on a line of its own, also after one that was cut short
        self._marks[mark] = None
