"""Says in plain words why a file or folder of the home cannot be used."""

import errno
import os
from pathlib import Path

from stem4d.errors import BadInput

_ELSEWHERE = "set NIGHTBEAM_HOME to another folder"


def unusable(error: OSError) -> BadInput:
    """What the system refused, as a user's mistake: the path, what is wrong with it, and what to do."""
    path, second = (os.fsdecode(name) if name else "" for name in (error.filename, error.filename2))
    wrong, limit, remedy = _why(error, Path(second if second and os.path.isdir(second) else path))
    return BadInput(field="path", value=str(wrong), limit=limit, remedy=remedy)


def refuse_folders(*files: Path) -> None:
    """Raise ``BadInput`` for the first of these paths that cannot be a file: it is a folder, or lies in a file."""
    for path in files:
        if path.is_dir():
            raise unusable(IsADirectoryError(errno.EISDIR, "is a folder", str(path)))
        if path.parent.exists() and not path.parent.is_dir():
            raise unusable(NotADirectoryError(errno.ENOTDIR, "is a file", str(path)))


def _why(error: OSError, path: Path) -> tuple[Path, str, str]:
    match error.errno:
        case errno.EROFS:
            return path, "lies on a disk that can only be read", f"Make it writable, or {_ELSEWHERE}"
        case errno.EACCES | errno.EPERM:
            return path, "this user may not use it", f"Change its owner or its rights, or {_ELSEWHERE}"
        case errno.ENOSPC | errno.EDQUOT:
            return path, "the disk is full", f"Free some space, or {_ELSEWHERE}"
    for place in (path, *path.parents):
        if place.is_symlink() and not place.exists():
            limit = f"is a link to {os.readlink(place)}, which is not there"
            return place, limit, f"Bring back what it points to, remove the link, or {_ELSEWHERE}"
        if error.errno in (errno.EEXIST, errno.ENOTDIR) and place.exists() and not place.is_dir():
            return place, "is a file where a folder has to be", f"Move it away, or {_ELSEWHERE}"
    if error.errno == errno.EISDIR:
        return path, "is a folder where a file has to be", "Move it away"
    return path, error.strerror or type(error).__name__, f"See what it is, or {_ELSEWHERE}"
