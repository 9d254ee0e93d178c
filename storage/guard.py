"""Refuses HDF5 files that reach outside their own folder, before any data in them is touched.

External links, external raw storage and virtual sources make HDF5 open other files by name. Virtual sources and links
within the file's own folder are let pass (a DECTRIS master file has them) and are looked through themselves. External
raw storage is refused altogether: HDF5 takes its names relative to the working directory, not to the file.
"""

from dataclasses import dataclass, field
from pathlib import Path

import h5py
from h5py import h5d, h5g, h5l, h5o

from stem4d.errors import BadInput, shown

MAX_OBJECTS = 50_000


@dataclass
class _Walk:
    folder: Path
    seen_files: set[Path] = field(default_factory=set)
    objects: int = 0


def datasets_of(path: Path) -> list[str]:
    """The data sets of an HDF5 file, by hard links from its root.

    Raises
    ------
    BadInput
        Something in the file, or in a file of the same folder that it refers to, lies outside that folder; a link of
        unknown type; more than 50,000 objects.
    """
    real = path.resolve()
    return _look_through(real, _Walk(real.parent))


def files_of(path: Path) -> set[Path]:
    """An HDF5 file and those in its folder that it refers to, as ``datasets_of`` looks through them."""
    real = path.resolve()
    walk = _Walk(real.parent)
    _look_through(real, walk)
    return walk.seen_files


def _look_through(path: Path, walk: _Walk) -> list[str]:
    walk.seen_files.add(path)
    found: list[str] = []
    others: list[Path] = []
    with h5py.File(path, "r") as file:
        pending = [(h5g.open(file.id, b"/"), "")]
        seen = {h5o.get_info(file.id).addr}
        while pending:
            group, parent = pending.pop()
            walk.objects += group.get_num_objs()
            if walk.objects > MAX_OBJECTS:
                raise BadInput(field=path.name, value="too many objects", limit=f"at most {MAX_OBJECTS:,} in a file")
            for name in group:
                where = f"{parent}/{name.decode(errors='replace')}"
                link = group.links.get_info(name).type
                if link == h5l.TYPE_SOFT:
                    continue
                if link == h5l.TYPE_EXTERNAL:
                    target = group.links.get_val(name)[0]
                    others.append(_own_folder(path, where, "external link", target, walk.folder))
                    continue
                if link != h5l.TYPE_HARD:
                    raise BadInput(field=f"{path.name}: {where}", value="a link of unknown type", limit="not followed")
                info = h5o.get_info(group, name)
                if info.addr in seen:
                    continue
                seen.add(info.addr)
                if info.type == h5o.TYPE_GROUP:
                    pending.append((h5g.open(group, name), where))
                elif info.type == h5o.TYPE_DATASET:
                    others += _sources(h5d.open(group, name), path, where, walk.folder)
                    found.append(where)
    for other in others:
        if other not in walk.seen_files:
            _look_through(other, walk)
    return found


def _sources(dataset: h5d.DatasetID, path: Path, where: str, folder: Path) -> list[Path]:
    # The creation properties alone: asking a virtual data set for its shape would already open its sources.
    properties = dataset.get_create_plist()
    if properties.get_external_count():
        name = properties.get_external(0)[0]
        raise _refused(path, where, "external raw storage", name, "raw storage outside the file is never opened")
    if properties.get_layout() != h5d.VIRTUAL:
        return []
    names = {properties.get_virtual_filename(index) for index in range(properties.get_virtual_count())}
    return [_own_folder(path, where, "virtual source", name, folder) for name in sorted(names - {"."})]


def _own_folder(path: Path, where: str, what: str, name: bytes | str, folder: Path) -> Path:
    text = name.decode(errors="replace") if isinstance(name, bytes) else name
    # HDF5 looks beside the file first and in the working directory next; "%b" in a virtual source is a pattern.
    target = folder / text
    if "%" in text or "\0" in text or not target.is_file() or target.resolve().parent != folder:
        raise _refused(path, where, what, text, "it is not a file in this file's own folder, so it is not opened")
    return target.resolve()


def _refused(path: Path, where: str, what: str, name: bytes | str, why: str) -> BadInput:
    text = name.decode(errors="replace") if isinstance(name, bytes) else name
    return BadInput(
        field=f"{path.name}: {where}",
        value=what,
        limit=f"{shown(text, 300)}: {why}",
        remedy="Copy the data into one file with h5repack or h5py, or put the files it refers to beside it",
    )
