"""Room on the disk, and giving a finished file its name without ever replacing another."""

import errno
import hashlib
import os
import re
import shutil
import stat
from collections.abc import Callable
from pathlib import Path

from stem4d.errors import BadInput, NightbeamError
from storage.home import unusable

HEADROOM = 1.2
"""A file may turn out this much larger than predicted."""

FreeBytes = Callable[[Path], int]


class DiskFull(NightbeamError):
    """The disk holds too little; what is written so far is intact."""

    def __init__(self, folder: Path, needed_bytes: int, free_bytes: int, refusal: str = "") -> None:
        self.folder, self.needed_bytes, self.free_bytes, self.refusal = folder, needed_bytes, free_bytes, refusal
        refused = f", and the system refuses to write more ({refusal})" if refusal else ""
        super().__init__(
            f"{folder}: {needed_bytes:,} bytes are needed (reserve included), {free_bytes:,} are free{refused}. "
            "Free some space, choose another disk for the data, or lower disk_reserve_gb"
        )

    def __reduce__(self) -> tuple[object, ...]:
        return DiskFull, (self.folder, self.needed_bytes, self.free_bytes, self.refusal)


def free_bytes(folder: Path) -> int:
    """Bytes an ordinary user may still write on the disk of this folder; raises `BadInput` where it cannot be asked."""
    try:
        return shutil.disk_usage(folder).free
    except OSError as error:
        raise unusable(error) from None


def require_space(folder: Path, needed_bytes: int, free: FreeBytes = free_bytes) -> None:
    """Raise ``DiskFull`` unless the disk of this folder has room for so many bytes."""
    if not folder.is_dir():
        raise BadInput(field="path", value=str(folder), limit="there is no such folder", remedy="Create it first")
    available = free(folder)
    if available < needed_bytes:
        raise DiskFull(folder, needed_bytes, available)


def refusal(error: OSError | RuntimeError) -> str:
    """The system's words where a failure was for want of room (disk, quota, longest file); empty for any other.

    HDF5's failures carry the number in their text alone.
    """
    told = re.search(r"errno = (\d+)", str(error))
    number = error.errno if isinstance(error, OSError) and error.errno else int(told[1]) if told else 0
    return os.strerror(number) if number in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG) else ""


def require_absent(*paths: Path) -> None:
    """Raise ``BadInput`` for the first of these paths that exists."""
    for path in paths:
        if os.path.lexists(path):
            raise BadInput(
                field="path",
                value=str(path),
                limit="a file of that name exists and is never overwritten",
                remedy="Choose another name, or move the file away; a .partial file is what a crash left",
            )


def sync(path: Path) -> None:
    """Have the disk acknowledge what was written to a file or folder."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def ordinary_bytes(path: Path, most: int) -> bytes:
    """The beginning of an ordinary file; OSError for anything else, at once: a pipe would be waited for."""
    number = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
    with os.fdopen(number, "rb") as file:
        if not stat.S_ISREG(os.fstat(number).st_mode):
            raise OSError(errno.EINVAL, "not an ordinary file", str(path))
        return file.read(most)


def replace_text(path: Path, text: str) -> None:
    """Replace a small file at once: who reads it sees the old one or the new one."""
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
    try:
        partial.write_text(text, encoding="utf-8")
        os.replace(partial, path)
    except OSError:
        partial.unlink(missing_ok=True)
        raise


def publish(partial: Path, final: Path) -> None:
    """Give a finished file its name: atomic, and refused where the name is taken."""
    try:
        # A hard link fails on an existing name; os.rename would replace it.
        os.link(partial, final, follow_symlinks=False)
    except FileExistsError:
        require_absent(final)
        raise
    partial.unlink()
    sync(final.parent)


def sha256_of_file(path: Path) -> str:
    """Hex SHA-256 of a file's bytes."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
