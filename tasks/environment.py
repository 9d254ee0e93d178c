"""The software that computes a run: interpreter, packages with versions, code revision."""

import functools
import platform
import subprocess
from importlib import metadata
from pathlib import Path
from typing import Any


@functools.cache
def software_environment() -> dict[str, Any]:
    """Facts for ``db.record.register_environment``."""
    packages = {
        distribution.metadata["Name"]: distribution.version
        for distribution in metadata.distributions()
        if distribution.metadata["Name"]
    }
    return {
        "python": platform.python_version(),
        "packages": dict(sorted(packages.items())),
        "code_revision": code_revision(),
    }


def code_revision() -> str:
    """The git revision of a checkout, with ``+changes`` where files differ from it; the version where installed."""
    root = Path(__file__).resolve().parents[1]
    if not (root / ".git").exists():
        return f"nightbeam {metadata.version('nightbeam')}"
    try:
        head = _git(root, "rev-parse", "HEAD")
        return f"{head}+changes" if _git(root, "status", "--porcelain", "--untracked-files=no") else head
    except (OSError, subprocess.SubprocessError):
        return f"nightbeam {metadata.version('nightbeam')}"


def _git(root: Path, *arguments: str) -> str:
    done = subprocess.run(  # noqa: S603 - fixed arguments
        ["git", "-C", str(root), *arguments],  # noqa: S607 - git from the user's path, as they use it
        capture_output=True,
        text=True,
        timeout=10,
        check=True,
    )
    return done.stdout.strip()
