"""Runs a command that is told to end when whoever started it is gone, by kill -9 too: ``tied.py PARENT COMMAND``.

The command stays the same process, so that its own children and signals are as without this.
"""

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1


def main(parent: int, command: list[str]) -> None:
    """Become the command."""
    if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG)")
    if os.getppid() != parent:
        sys.exit(1)
    os.execv(command[0], command)  # noqa: S606 - our own interpreter and arguments


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2:])
