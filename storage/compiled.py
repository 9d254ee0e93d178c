"""Where compiled kernels are kept: beside the program, with the user, or in the home: a service may have no other."""

import os
from pathlib import Path

FOLDER = "compiled"
VARIABLE = "NUMBA_CACHE_DIR"


def keep_compiled_in(home: Path) -> None:
    """Have numba, which refuses to work without a place for what it compiled, use the home where it has no other."""
    # Not /tmp: what lies there was perhaps put there by somebody else, and it is run.
    if VARIABLE not in os.environ and not any(
        _writable(one) for one in (Path(__file__).parents[1] / "stem4d", _users())
    ):
        os.environ[VARIABLE] = str(home / FOLDER)


def _users() -> Path:
    try:
        return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "numba"
    except RuntimeError:  # a user without a home
        return Path("/nonexistent")


def _writable(folder: Path) -> bool:
    """Whether it can be written to, or made."""
    there = next(one for one in (folder, *folder.parents) if one.exists())
    return os.access(there, os.W_OK | os.X_OK)
