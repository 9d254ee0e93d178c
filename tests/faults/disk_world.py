"""Disks that are full: a small file system, or a limit of the kernel that no look at the free space tells."""

import resource
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.faults.packed_world import Scheduled


@contextmanager
def small_disk(folder: Path, megabytes: int) -> Iterator[Path]:
    """A file system of so many megabytes; skips where none may be mounted."""
    folder.mkdir()
    asked = ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "nightbeam-test", str(folder)]
    done = subprocess.run(asked, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"no small disk: mounting a tmpfs takes root ({done.stderr.strip()})")
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


@dataclass(frozen=True)
class Capped(Scheduled):
    """A source in whose process no file may grow beyond a size: the disk's space is there, and writing fails."""

    largest_bytes: int = 2**20

    def open(self) -> "Capped":
        resource.setrlimit(resource.RLIMIT_FSIZE, (self.largest_bytes, self.largest_bytes))
        return self
