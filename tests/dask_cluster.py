"""A Dask cluster on loopback for tests and benches: real processes, each of which may be killed."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


@dataclass(frozen=True)
class Certificates:
    """Files of an authority, and of a certificate that it signed."""

    ca: Path
    cert: Path
    key: Path


class Cluster:
    """A scheduler and workers as docs/analysis.md starts them."""

    def __init__(self, folder: Path, workers: int, options: "Options") -> None:
        self._folder, self._options = folder, options
        port = free_port()
        self.address = f"{'tls' if options.tls else 'tcp'}://127.0.0.1:{port}"
        self._log = (folder / f"cluster-{port}.log").open("ab")
        # One that was left alone ends by itself.
        self.processes = [
            self._begin("scheduler", options.scheduler_environment, "--port", str(port), "--idle-timeout", "600s")
        ]
        for _ in range(workers):
            self.add_worker()

    def add_worker(self) -> None:
        nanny = () if self._options.nanny else ("--no-nanny",)
        self.processes.append(
            self._begin(
                "worker", self._options.worker_environment, self.address, "--nthreads", "1", *nanny,
                "--memory-limit", self._options.memory, "--local-directory", str(self._folder), "--death-timeout", "60",
            )
        )  # fmt: skip

    def _begin(self, part: str, more: Mapping[str, str], *arguments: str) -> subprocess.Popen[bytes]:
        tls = self._options.tls
        files = ("--tls-ca-file", tls.ca, "--tls-cert", tls.cert, "--tls-key", tls.key) if tls else ()
        always = ("--host", "127.0.0.1", "--no-dashboard")
        command = [sys.executable, "-P", "-m", "distributed.cli.dask_" + part, *arguments, *always, *map(str, files)]
        environment = {**os.environ, "PYTHONPATH": os.getcwd(), "NUMBA_NUM_THREADS": "1", **more}
        return subprocess.Popen(command, stdout=self._log, stderr=self._log, env=environment, start_new_session=True)

    def close(self) -> None:
        for process in reversed(self.processes):
            # With what a nanny started: the session is its own.
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait(30)
        self._log.close()


@dataclass(frozen=True)
class Options:
    memory: str = "2GB"
    nanny: bool = False
    """Whether a worker that dies is started again."""
    tls: Certificates | None = None
    worker_environment: Mapping[str, str] = field(default_factory=dict)
    scheduler_environment: Mapping[str, str] = field(default_factory=dict)


class Deadly:
    """Kills the process that unpacks it, where that is a worker."""

    def __reduce__(self) -> Any:
        return die_in_a_worker, ()


def die_in_a_worker() -> Deadly:
    if "NIGHTBEAM_CRASH_HERE" in os.environ:
        os._exit(1)
    return Deadly()


@contextmanager
def cluster(folder: Path, workers: int = 2, options: Options | None = None) -> Iterator[Cluster]:
    one = Cluster(folder, workers, options or Options())
    try:
        yield one
    finally:
        one.close()
