"""Opens any 4D-STEM file, ours or not, for reading frame by frame."""

import os
from pathlib import Path

from stem4d.errors import BadInput
from storage.foreign import ChildLimits, open_foreign, require_reader
from storage.frames import Frames
from storage.hdf5 import has_signature, is_ours, open_hdf5
from storage.trial import is_sound_and_ours

_HDF5_SUFFIXES = (".h5", ".hdf5", ".hdf", ".nxs", ".emd", ".hspy", ".partial")


def open_frames(path: Path | str, limits: ChildLimits | None = None, *, wary: bool = False) -> Frames:
    """Open a 4D-STEM file; close it again, or use it as a context manager.

    Parameters
    ----------
    path : path or str
        HDF5 of any origin, or what RosettaSciIO reads (``.mib``, ``.blo``, ``.dm4``, EMPAD ``.xml``, ...).
    limits : ChildLimits, optional
        What the child process that reads any file but our own may use.
    wary : bool
        Try even one of our own files in such a child first: it may have come from anywhere.

    Raises
    ------
    BadInput
        The file is missing, empty, truncated, of no known format, claims more than it holds, refers to files outside
        its folder, or its reader ran into a limit.
    """
    path = Path(path)
    require_file(path)
    if has_signature(path):
        allowed = limits or ChildLimits()
        ours = is_sound_and_ours(path, allowed) if wary else is_ours(path)
        return open_hdf5(path) if ours else open_foreign(path, allowed)
    if path.suffix.lower() in _HDF5_SUFFIXES:
        raise BadInput(
            field=path.name,
            value=f"begins with {_start(path)}",
            limit="is not HDF5, though its name says so",
            remedy="The file may be damaged; copy it again from its source",
        )
    require_reader(path)
    return open_foreign(path, limits or ChildLimits())


def require_file(path: Path) -> None:
    """Raise ``BadInput`` unless there is an ordinary file with something in it."""
    # os.path answers no where pathlib would raise: a name that is too long, for one.
    if not os.path.exists(path):
        raise BadInput(field="file", value=str(path), limit="there is no such file")
    if not os.path.isfile(path):
        raise BadInput(field="file", value=str(path), limit="is not an ordinary file")
    if not os.access(path, os.R_OK):
        raise BadInput(field="file", value=str(path), limit="may not be read by this user")
    if path.stat().st_size == 0:
        raise BadInput(field="file", value=str(path), limit="the file is empty")


def _start(path: Path) -> str:
    with path.open("rb") as stream:
        return stream.read(16).hex(" ")
