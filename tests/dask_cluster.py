"""A Dask cluster on loopback for tests and benches: real processes, each of which may be killed."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


class Cluster:
    """A scheduler and workers as docs/analysis.md starts them."""

    def __init__(self, folder: Path, workers: int, memory: str) -> None:
        self.address = f"tcp://127.0.0.1:{free_port()}"
        self._log = (folder / "cluster.log").open("ab")
        port = self.address.rpartition(":")[2]
        self.processes = [self._begin("scheduler", "--host", "127.0.0.1", "--port", port, "--no-dashboard")]
        for _ in range(workers):
            self.processes.append(
                self._begin(
                    "worker", self.address, "--nthreads", "1", "--no-nanny", "--no-dashboard", "--memory-limit", memory,
                    "--local-directory", str(folder), "--host", "127.0.0.1", "--death-timeout", "60",
                )
            )  # fmt: skip

    def _begin(self, *arguments: str) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "distributed.cli.dask_" + arguments[0], *arguments[1:]]
        environment = {**os.environ, "PYTHONPATH": os.getcwd(), "NUMBA_NUM_THREADS": "1"}
        return subprocess.Popen(command, stdout=self._log, stderr=self._log, env=environment)

    def close(self) -> None:
        for process in self.processes:
            process.send_signal(signal.SIGKILL)
            process.wait()
        self._log.close()


@contextmanager
def cluster(folder: Path, workers: int = 2, memory: str = "2GB") -> Iterator[Cluster]:
    one = Cluster(folder, workers, memory)
    try:
        yield one
    finally:
        one.close()
