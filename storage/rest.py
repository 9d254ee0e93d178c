"""Looks at everything in a file of ours besides the frames, so that damage to it is met here and not by its user."""

from collections.abc import Callable
from functools import partial
from typing import Any

import h5py
import numpy as np
from h5py import h5a, h5g, h5l, h5o

from storage import layout
from storage.hdf5 import DAMAGE

MOST = 20
"""Troubles that are told."""


def unreadable_parts(file: h5py.File, on_part: Callable[[], None], *, texts: bool = False) -> list[str]:
    """Every group, attribute and data set of the file but its frames that cannot be read, with the reason.

    HDF5 keeps a checksum of its structure, not of data: a value that was changed in an array reads as any other. What
    says so is the checksum of the whole file that a database has.

    Parameters
    ----------
    file : h5py.File
        The file.
    on_part : callable
        Called now and then, to show that it gets on.
    texts : bool
        Read the texts of variable length, and nothing else. They lie in a heap without a checksum that makes HDF5 loop
        for ever, or crash, where it is damaged.
    """
    found: list[str] = []
    seen: set[int] = set()
    pending: list[tuple[h5py.Group, str]] = [(file, "")]
    while pending:
        group, parent = pending.pop()
        on_part()
        _try(found, f"{parent or '/'} (attributes)", partial(_read_attributes, group.id, texts))
        names: list[bytes] = []
        _try(found, f"{parent or '/'} (its members)", partial(names.extend, group.id))
        for name in names:
            where = f"{parent}/{name.decode(errors='replace')}"
            _try(found, where, partial(_look, group, name, where, seen, pending, texts))
            if len(found) >= MOST:
                return [*found, "and perhaps more"]
    return found


def _try(found: list[str], where: str, look: Callable[[], None]) -> None:
    try:
        look()
    except DAMAGE as error:
        found.append(f"{where}: {type(error).__name__}: {error}".replace("\n", " ")[:300])


def _look(
    group: h5py.Group,
    name: bytes,
    where: str,
    seen: set[int],
    pending: list[tuple[h5py.Group, str]],
    texts: bool,
) -> None:
    if group.id.links.get_info(name).type != h5l.TYPE_HARD:
        return
    info = h5o.get_info(group.id, name)
    if info.addr in seen:
        return
    seen.add(info.addr)
    if info.type == h5o.TYPE_GROUP:
        pending.append((h5py.Group(h5g.open(group.id, name)), where))
        return
    data = group[name]
    _read_attributes(data.id, texts)
    if where != layout.FRAMES and data.dtype.hasobject == texts and data.nbytes <= layout.MAX_POSITIONS * 8:
        data[()]


def _read_attributes(where: Any, texts: bool) -> None:
    for index in range(h5a.get_num_attrs(where)):
        attribute = h5a.open(where, index=index)
        if attribute.dtype.hasobject == texts:
            attribute.read(np.empty(attribute.shape, attribute.dtype))
