"""The child that flows/api.py starts: Prefect's API on an inherited socket, killed by the kernel with its parent.

Run by path, so it imports nothing of ours.
"""

import ctypes
import gc
import os
import signal
import socket
import sys

PR_SET_PDEATHSIG = 1


def die_with(parent: int) -> None:
    """Ask the kernel for SIGKILL when the thread that started us ends, and leave now if it ended already."""
    if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG)")
    if os.getppid() != parent:
        sys.exit(1)


def main(door: int, parent: int) -> None:
    """Serve until a signal comes; settings come from the environment."""
    die_with(parent)
    gc.disable()  # a fifth of the imports below is the collector looking at modules that will stay
    import uvicorn
    from prefect.server.api.server import create_app

    app = create_app(final=True)
    gc.freeze()
    gc.enable()
    config = uvicorn.Config(app, log_level="warning", access_log=False, lifespan="on", timeout_graceful_shutdown=5)
    uvicorn.Server(config).run(sockets=[socket.socket(fileno=door)])


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
