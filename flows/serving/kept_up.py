"""A child process that is started again when it ends, and that ends with its parent."""

import os
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path

from flows.api import prepare_log

AGAIN_S = 5.0
"""Between an end and the next start [s]."""
STOP_WITHIN_S = 10.0
Say = Callable[[str], None]


class KeptUp:
    """One command that runs for as long as this object is not stopped.

    The kernel's signal at the parent's death follows the thread that started the child, so a thread of its own starts
    it and waits for it.
    """

    def __init__(
        self, name: str, command: list[str], log: Path, folder: Path, say: Say, environment: Mapping[str, str]
    ) -> None:
        self._name, self._command, self._log, self._folder, self._say = name, command, log, folder, say
        self._environment = {**os.environ, **environment}
        self._stopping, self._held = threading.Event(), False
        self._process: subprocess.Popen[bytes] | None = None
        self._one = threading.Lock()
        self._keeper = threading.Thread(target=self._keep, name=f"keeper of {name}", daemon=True)
        self._keeper.start()

    def _keep(self) -> None:
        while not self._stopping.is_set():
            with self._one:
                if self._stopping.is_set():
                    return
                process = self._process = self._start()
            code = process.wait()
            if not self._stopping.is_set():
                self._say(f"{self._name} ended with code {code}, and is started again; see {self._log}")
                self._stopping.wait(AGAIN_S)

    def _start(self) -> subprocess.Popen[bytes]:
        self._log.parent.mkdir(parents=True, exist_ok=True)
        prepare_log(self._log)
        tied = [sys.executable, "-P", str(Path(__file__).with_name("tied.py")), str(os.getpid())]
        with self._log.open("ab") as log:
            return subprocess.Popen(  # noqa: S603 - our own interpreter and arguments
                [*tied, *self._command],
                cwd=self._folder,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # Ctrl+C at the terminal is the parent's business
            )

    @property
    def pid(self) -> int | None:
        """The process that runs now."""
        return self._process.pid if self._process and self._process.poll() is None else None

    def hold(self) -> int | None:
        """Start it no more; gives its process for whoever makes it stand still, None where there is none."""
        self._stopping.set()
        with self._one:
            self._held = True
            return self.pid

    def stop(self, within_s: float = STOP_WITHIN_S) -> None:
        """End it for good."""
        self._stopping.set()
        with self._one:
            process = self._process
        if process is None:
            return
        if not self._held:
            process.terminate()
            with suppress(subprocess.TimeoutExpired):
                process.wait(within_s)
        # One that stands still cannot end in its own time, and has nothing more to end.
        process.kill()
        process.wait()
        self._keeper.join()
