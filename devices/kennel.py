"""Starts a watchdog's process and says how it ended."""

import os
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

END_S = 2.0
"""How long a watchdog that was told to end may take."""
LOG_FILE = "watchdog.log"


@dataclass(frozen=True)
class Dog:
    """A watchdog that was started."""

    words: int
    """Descriptor that it is spoken to by."""
    answers: int
    """Descriptor that it answers by."""
    last_words: Callable[[], str]
    """How it ended, when its answers have."""
    close: Callable[[bool], None]

    def end(self, *, patiently: bool) -> None:
        """Be rid of it: ``patiently`` where it has been told to end, else at once."""
        self.close(patiently)


def spawn(path: Path, home: Path, folder: Path) -> Dog:
    """Start the watchdog of an instrument's file, in a session of its own and with nothing of ours but two pipes."""
    folder.mkdir(parents=True, exist_ok=True)
    complaints = _complaints(folder / LOG_FILE)
    # It imports what this process would: the empty path is the folder this one works in.
    paths = os.pathsep.join(os.path.abspath(path) for path in sys.path)
    try:
        process = subprocess.Popen(  # noqa: S603 - our own interpreter and module
            [sys.executable, "-P", "-m", "devices.watchdog", str(path.absolute())],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=complaints,
            bufsize=0,
            env={**os.environ, "PYTHONPATH": paths, "NIGHTBEAM_HOME": str(home), "OMP_NUM_THREADS": "1"},
            start_new_session=True,
        )
    finally:
        os.close(complaints)
    assert process.stdin is not None
    assert process.stdout is not None
    stdin, stdout = process.stdin, process.stdout

    def last_words() -> str:
        with suppress(subprocess.TimeoutExpired):
            process.wait(END_S)
        return f"the watchdog, process {process.pid}, {_how(process.poll())}; see {folder / LOG_FILE}"

    def close(patiently: bool) -> None:
        stdin.close()
        try:
            if not patiently:
                process.kill()
            process.wait(END_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        stdout.close()

    return Dog(stdin.fileno(), stdout.fileno(), last_words, close)


def _how(code: int | None) -> str:
    if code is None:
        return "has closed its connection"
    return f"was killed by signal {-code}" if code < 0 else f"ended with exit code {code}"


def _complaints(path: Path) -> int:
    try:
        return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    except OSError:  # a log less is no reason not to watch
        return os.open(os.devnull, os.O_WRONLY)
