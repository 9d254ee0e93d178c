"""Writes a run as an RO-Crate (Process Run Crate 0.5), as a folder or a zip file: whole, or not at all."""

import os
import shutil
import zipfile
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

from stem4d.errors import BadInput
from storage.disk import publish, require_absent, require_space, sha256_of_file, sync
from storage.home import unusable

PROFILE = "https://w3id.org/ro/wfrun/process/0.5"
COPIED_AT_ONCE = 8 * 2**20


@dataclass(frozen=True)
class Part:
    """A file of a crate: its text, or where it is copied from; ``sha256`` is then what it has to come out as."""

    name: str
    """Relative path within the crate."""
    described: dict[str, Any]
    text: str | None = None
    source: Path | None = None
    sha256: str = ""


@dataclass(frozen=True)
class Described:
    """What a crate says of itself and of the run."""

    name: str
    description: str
    licence: str
    published: str
    action: dict[str, Any]
    """Of the run, with ids of others as ``{"@id": ...}``."""
    more_actions: tuple[tuple[str, dict[str, Any]], ...] = ()
    """Ids and properties of what was done with its results."""
    entities: tuple[tuple[str, dict[str, Any]], ...] = ()
    """Ids and properties of what is no file: software, instrument, data that are not in the crate."""
    parts: tuple[Part, ...] = field(default_factory=tuple)


def write_crate(target: Path, described: Described) -> None:
    """Write a crate to a path that does not exist: a zip file where its name ends in ``.zip``, else a folder.

    Raises
    ------
    BadInput
        The path exists or cannot be written, or a file is not what was recorded; nothing is left then.
    DiskFull
        There is no room for it.
    """
    require_absent(target)
    parent = target.absolute().parent
    sources = [part.source for part in described.parts if part.source is not None]
    try:
        needed = sum(source.stat().st_size for source in sources)
        # Of a zip file there is the folder beside it for a while.
        require_space(parent, (2 if target.suffix == ".zip" else 1) * needed + 2**24)
        passing = Path(mkdtemp(prefix=f".{target.name}.", suffix=".partial", dir=parent))
    except OSError as error:
        raise unusable(error) from None
    try:
        _fill(passing / "crate", described)
        if target.suffix == ".zip":
            _pack(passing / "crate", passing / "crate.zip")
            publish(passing / "crate.zip", target)
        else:
            # The name is free: a folder is renamed onto an empty one at most, which nobody has made meanwhile.
            require_absent(target)
            os.rename(passing / "crate", target)
            sync(parent)
    except OSError as error:
        raise unusable(error) from None
    finally:
        shutil.rmtree(passing, ignore_errors=True)


def _fill(folder: Path, described: Described) -> None:
    from rocrate.model.contextentity import ContextEntity
    from rocrate.rocrate import ROCrate

    folder.mkdir()
    for part in described.parts:
        _put(folder / part.name, part)
    crate = ROCrate(version="1.1")
    crate.name, crate.description = described.name, described.description
    crate.license, crate.datePublished = described.licence, described.published
    profile = {"@type": "CreativeWork", "name": "Process Run Crate", "version": "0.5"}
    crate.root_dataset["conformsTo"] = crate.add(ContextEntity(crate, PROFILE, properties=profile))
    for name, properties in described.entities:
        crate.add(ContextEntity(crate, name, properties=properties))
    for part in described.parts:
        path = folder / part.name
        facts = {"contentSize": str(path.stat().st_size), "sha256": sha256_of_file(path), **part.described}
        crate.add_file(path, part.name, properties=facts)
    action = crate.add(ContextEntity(crate, "#run", properties=described.action))
    later = [crate.add(ContextEntity(crate, name, properties=told)) for name, told in described.more_actions]
    crate.root_dataset["mentions"] = [action, *later]
    # The library copies files onto themselves otherwise: only its description is wanted, the files are there.
    crate.metadata.write(folder)


def _put(path: Path, part: Part) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if part.source is None:
        path.write_text(part.text or "", encoding="utf-8")
        return
    with part.source.open("rb") as source, path.open("xb") as copy:
        shutil.copyfileobj(source, copy, COPIED_AT_ONCE)
        copy.flush()
        os.fsync(copy.fileno())
    if part.sha256 and (found := sha256_of_file(path)) != part.sha256:
        raise BadInput(
            field=str(part.source),
            value=f"sha256 {found[:16]}...",
            limit=f"is not the file that was recorded (sha256 {part.sha256[:16]}...)",
            remedy="`nightbeam verify` says what is wrong with it; --without-frames leaves the data out",
        )


def _pack(folder: Path, target: Path) -> None:
    # Stored, not packed: data files are packed already.
    with zipfile.ZipFile(target, "x", zipfile.ZIP_STORED, allowZip64=True) as packed:
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                packed.write(path, path.relative_to(folder).as_posix())
    sync(target)
