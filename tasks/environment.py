"""The software that computes a run: interpreter, packages with versions, code revision."""

import functools
import platform
import re
import subprocess
from concurrent.futures import ThreadPoolExecutor
from importlib import metadata
from pathlib import Path
from typing import Any

_FACT = re.compile(r"^(Name|Version):[ \t]*(\S+)[ \t]*$", re.MULTILINE)


@functools.cache
def software_environment() -> dict[str, Any]:
    """Facts for ``db.record.register_environment``."""
    with ThreadPoolExecutor(1) as beside:
        revision = beside.submit(code_revision)  # git has to look at every file, and is another process
        packages = dict(filter(None, map(_name_and_version, metadata.distributions())))
        return {
            "python": platform.python_version(),
            "packages": dict(sorted(packages.items())),
            "code_revision": revision.result(),
        }


def _name_and_version(distribution: metadata.Distribution) -> tuple[str, str] | None:
    """By the first lines alone: to parse what follows them takes a quarter of a second for all packages of a run."""
    head = (distribution.read_text("METADATA") or "").partition("\n\n")[0]
    found = dict(_FACT.findall(head))
    if len(found) == 2:
        return found["Name"], found["Version"]
    name = distribution.metadata["Name"]
    return (name, distribution.version) if name else None


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
