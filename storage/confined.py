"""What a child process that reads a file of unknown state does first: take limits, and end with its parent."""

import os
import resource
import threading


def confine(memory_bytes: int, beside_bytes: int, cpu_s: int, write_bytes: int | None = None) -> None:
    """Limit this process, for good.

    Parameters
    ----------
    memory_bytes : int
        What it may allocate.
    beside_bytes : int
        Size of the file that it may map besides: that counts as address space, not as data.
    cpu_s : int
        Processor time [s].
    write_bytes : int, optional
        Longest file that it may write.
    """
    limits = {
        resource.RLIMIT_AS: memory_bytes + 2 * beside_bytes,
        resource.RLIMIT_DATA: memory_bytes,
        resource.RLIMIT_CPU: cpu_s,
        resource.RLIMIT_CORE: 0,
    }
    if write_bytes is not None:
        limits[resource.RLIMIT_FSIZE] = write_bytes
    for kind, value in limits.items():
        hard = resource.getrlimit(kind)[1]
        allowed = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(kind, (allowed, allowed))


def end_with_parent() -> None:
    """End this process when its parent closes our standard input, or dies."""
    threading.Thread(target=_wait, daemon=True).start()


def _wait() -> None:
    os.read(0, 1)  # nothing is ever written there
    os._exit(1)
