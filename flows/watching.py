"""Watched folders: each new file that does not change any more starts a deployment; asked at least once, by one key."""

import fnmatch
import os
import re
import stat
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from threading import Event, Thread
from typing import Any, Protocol

from stem4d.errors import BadInput, NightbeamError
from stem4d.model import sha256_of
from stem4d.names import plainly
from storage.settings import Settings
from storage.triggers import Watch
from storage.watched import Remembered

EVERY_S = 2.0
"""Between two looks at a folder."""
SHARE = 9
"""How many times longer than a look took the next one waits: a slow drive is not kept busy."""
MOST_FILES = 50_000
"""In a folder; one with more is not watched: what was dealt with belongs elsewhere."""
MOST_ASKED = 100
"""In one look."""
FIRST_WAIT_S, LONGEST_WAIT_S, LONGEST_AWAY_S = 2.0, 300.0, 30.0
"""After what was asked in vain; the last while nobody can be asked."""
LONGEST_NAME = 60
MOST_TOLD = 100
JOIN_S = 5.0

Clock = Callable[[], float]
Tell = Callable[[str], None]


class Submit(Protocol):
    """What is told of a file: `flows.submit.submit`."""

    def __call__(self, deployment: str, parameters: dict[str, Any], *, source: Any, key: str) -> str:
        """Ask for a run; the flow run's id."""


@dataclass(frozen=True)
class Seen:
    """A file as it was listed; another size or time makes it another one."""

    name: str
    size: int
    mtime_ns: int


@dataclass
class Watching:
    """One watched folder, from look to look."""

    watch: Watch
    remembered: Remembered
    submit: Submit
    clock: Clock
    tell: Tell
    _marks: dict[Seen, str] = field(default_factory=dict)
    _since: dict[Seen, float] = field(default_factory=dict)
    """When each new file was first seen as it is."""
    _wait: dict[Seen | None, tuple[float, float]] = field(default_factory=dict)
    """Until when a file that was asked for in vain waits, and for how long [s]; None stands for all of them."""
    listing_s: float = 0.0
    """How long the last listing took."""
    _inode: int | None = None
    _told: set[str] = field(default_factory=set)
    """What is wrong, each told once until all is well."""

    def look(self) -> None:
        """List the folder once, and ask for each file that has settled and was not asked for."""
        begun_s = time.monotonic()
        try:
            inode, seen = _listed(self.watch)
        except OSError as error:
            self.trouble(f"cannot be listed ({error.strerror or type(error).__name__}); it is tried again")
            return
        finally:
            self.listing_s = time.monotonic() - begun_s
        if seen is None:
            self.trouble(f"holds more than {MOST_FILES:,} files and is not watched; move away what was dealt with")
            return
        self._marks = {one: self._marks.get(one) or self._mark(one) for one in seen}
        self._begin(inode)
        self.remembered.tidy(self._marks.values())
        new = [one for one, mark in self._marks.items() if mark not in self.remembered]
        now = self.clock()
        self._since = {one: self._since.get(one, now) for one in new}
        self._wait = {one: wait for one, wait in self._wait.items() if one is None or one in self._since}
        ready = [one for one in new if now - self._since[one] >= self.watch.settle_s]
        due = [one for one in ready if not self._waits(one) and not self._waits(None)]
        for one in sorted(due, key=lambda each: (each.mtime_ns, each.name))[:MOST_ASKED]:
            if not self._ask(one):
                return
        if self._told and not self._wait:
            self._told.clear()
            self._say("is watched again")

    def trouble(self, words: str) -> None:
        """Tell what is wrong, once."""
        if words not in self._told and len(self._told) < MOST_TOLD:
            self._told.add(words)
            self._say(words)

    def _ask(self, one: Seen) -> bool:
        """Ask for one file; gives whether it makes sense to go on with the next one."""
        path, mark = str(self.watch.folder / one.name), self._marks[one]
        parameters = {name: _with(value, path) for name, value in self.watch.parameters.items()}
        # A name for a person, and what makes it this file and no other.
        key = f"{plainly(one.name)[-LONGEST_NAME:]} {mark}"
        try:
            run = self.submit(self.watch.deployment, parameters, source="file", key=key)
        except NightbeamError as error:
            # Parameters may be wrong for one file; an API that is away, or has no such deployment, is so for all.
            of_one = isinstance(error, BadInput) and error.field != "deployment"
            which, longest_s = (one, LONGEST_WAIT_S) if of_one else (None, LONGEST_AWAY_S)
            _until, before_s = self._wait.get(which, (0.0, FIRST_WAIT_S / 2))
            wait_s = min(2 * before_s, longest_s)
            self._wait[which] = (self.clock() + wait_s, wait_s)
            self.trouble(f"{plainly(one.name) if of_one else 'what is new'} waits: {error}")
            return of_one
        self.remembered.add(mark)
        self._wait.pop(one, None)
        self._wait.pop(None, None)
        self._say(f"{plainly(one.name)} started {self.watch.deployment}, flow run {run}")
        return True

    def _waits(self, which: Seen | None) -> bool:
        return which in self._wait and self.clock() < self._wait[which][0]

    def _begin(self, inode: int) -> None:
        """Begin a folder that was not watched before: what lies in it is no news.

        Where a disk is not mounted, its place is an empty folder: that is no beginning of the one that comes.
        """
        first, changed = not self.remembered.inodes, self._inode not in (None, inode)
        self._inode = inode
        if inode in self.remembered.inodes or self.remembered.any_of(self._marks.values()):
            if changed:
                self._say("is another folder than a moment ago, and known: was a disk mounted, or taken away?")
            if inode not in self.remembered.inodes:
                self.remembered.begin(inode, ())
            return
        there = [] if self.watch.existing else list(self._marks.values())
        self.remembered.begin(inode, there)
        if not first:
            self._say(f"is another folder than before (a disk mounted?); {len(there)} files in it start nothing")
        elif there:
            self._say(f"{len(there)} files are there already and start nothing")

    def _mark(self, one: Seen) -> str:
        path = os.fsencode(self.watch.folder / one.name).hex()
        return sha256_of(f"{self.watch.deployment} {path} {one.size} {one.mtime_ns}")[:32]

    def _say(self, words: str) -> None:
        self.tell(f"watched {plainly(self.watch.folder)}: {words}")


def _print(words: str) -> None:
    print(words, flush=True)


def watch(
    settings: Settings,
    stop: Event,
    submit: Submit | None = None,
    clock: Clock = time.monotonic,
    tell: Tell = _print,
    every_s: float = EVERY_S,
) -> None:
    """Watch the folders of the settings until ``stop`` is set; each in a thread of its own.

    A network drive that hangs holds up its own folder alone, and not the end either.
    """
    if submit is None:
        from flows.submit import submit as by_prefect

        submit = by_prefect
    followed = [Watching(one, Remembered(settings.home, one), submit, clock, tell) for one in settings.watch]
    threads = [Thread(target=_follow, args=(one, stop, every_s), daemon=True, name="watch") for one in followed]
    for thread in threads:
        thread.start()
    stop.wait()
    for thread in threads:
        thread.join(JOIN_S)


def _follow(watching: Watching, stop: Event, every_s: float) -> None:
    while not stop.is_set():
        try:
            watching.look()
        except Exception as error:  # noqa: BLE001 - a full disk under the home, or a bug, ends no watch
            watching.trouble(f"could not be looked at ({type(error).__name__}: {error})")
        stop.wait(max(every_s, SHARE * watching.listing_s))


def _listed(one: Watch) -> tuple[int, list[Seen] | None]:
    """Which folder it is, and its ordinary files of the wanted names; None where there are too many.

    Hidden files and what is still being written by its name are left out; so are folders, links and pipes.
    """
    matches = re.compile(fnmatch.translate(one.pattern)).match
    seen: list[Seen] = []
    # By one handle: what is listed is what the number names, also where a disk is mounted meanwhile.
    handle = os.open(one.folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        with os.scandir(handle) as entries:
            for number, entry in enumerate(entries):
                if number >= MOST_FILES:
                    return 0, None
                name = entry.name
                if name.startswith(".") or name.endswith(".partial") or not matches(name):
                    continue
                try:
                    facts = entry.stat(follow_symlinks=False)
                except FileNotFoundError:
                    continue  # gone since it was listed
                if stat.S_ISREG(facts.st_mode):
                    seen.append(Seen(name, facts.st_size, facts.st_mtime_ns))
        return os.fstat(handle).st_ino, seen
    finally:
        os.close(handle)


def _with(value: Any, path: str) -> Any:
    """A parameter with the file's path in its place."""
    if isinstance(value, str):
        return value.replace("{path}", path)
    if isinstance(value, list):
        return [_with(item, path) for item in value]
    return {name: _with(item, path) for name, item in value.items()} if isinstance(value, dict) else value
