"""Which processes of this machine have a file open for writing."""

import os
from pathlib import Path


def writers_of(path: Path) -> tuple[int, ...]:
    """Ids of the processes, as far as this user may see, that can write to a file."""
    wanted = os.stat(path)
    found = []
    for process in Path("/proc").iterdir():
        if process.name.isdigit() and _writes(process, (wanted.st_dev, wanted.st_ino)):
            found.append(int(process.name))
    return tuple(sorted(found))


def _writes(process: Path, wanted: tuple[int, int]) -> bool:
    # A process, a file of its, or the right to look may be gone at any moment.
    try:
        handles = list((process / "fd").iterdir())
    except OSError:
        return False
    for handle in handles:
        try:
            there = handle.stat()
            if (there.st_dev, there.st_ino) != wanted:
                continue
            lines = (process / "fdinfo" / handle.name).read_text().splitlines()
        except OSError:
            continue
        flags = next((line.split()[1] for line in lines if line.startswith("flags:")), "0")
        if int(flags, 8) & os.O_ACCMODE != os.O_RDONLY:
            return True
    return False
