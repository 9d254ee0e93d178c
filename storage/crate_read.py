"""Reads a crate that may have come from anywhere: nothing is unpacked, fetched or followed, and all is bounded."""

import hashlib
import json
import os
import stat
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import IO, Any
from urllib.parse import unquote

from stem4d.errors import BadInput

METADATA = "ro-crate-metadata.json"
LARGEST_TEXT = 16 * 2**20
"""Bytes of a description or document of ours; that of a run with a thousand figures takes one."""
PACKED = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
"""Ways of packing that can be unpacked piece by piece; the others take all the memory that they like."""
MOST_FILES = 10_000
LONGEST_NAME = 1000
_PIECE = 2**20

Opened = Callable[[], AbstractContextManager[IO[bytes]]]


@dataclass(frozen=True)
class Held:
    """A file that is in a crate: its size, and how it is opened."""

    size: int
    open: Opened


@dataclass(frozen=True)
class Stated:
    """A file that the description of a crate tells of."""

    name: str
    size: int | None
    sha256: str | None


@dataclass(frozen=True)
class Crate:
    """A crate as it was found."""

    files: dict[str, Held]
    """By their relative path."""
    entities: dict[str, dict[str, Any]]
    """What its description says, by id."""
    sha256: dict[str, str]
    """Of every file that is in it, as it is."""
    troubles: tuple[str, ...]
    """What is wrong with it."""

    def text(self, name: str) -> str | None:
        """A document in it; None where it is not there. Raises `BadInput` where it is too large or no text."""
        held = self.files.get(name)
        return None if held is None else _text(name, held)


def open_crate(path: Path) -> AbstractContextManager[Crate]:
    """Look at a crate, a folder or a zip file, and hold each file to what its description says.

    Raises
    ------
    BadInput
        There is no crate, or its description cannot be read, claims too much, or tells of files outside of it.
    """
    if path.is_dir():
        return _of_folder(path)
    if path.is_file() and zipfile.is_zipfile(path):
        return _of_zip(path)
    raise BadInput(field="crate", value=str(path), limit="must be a folder or a zip file with an RO-Crate in it")


@contextmanager
def _of_folder(folder: Path) -> Iterator[Crate]:
    yield _crate({name: _held(folder, name) for name in _names(folder)})


def _names(folder: Path) -> Iterator[str]:
    count = 0
    for where, folders, files in os.walk(folder, followlinks=False):
        for each in (*folders, *files):
            path = Path(where) / each
            name = path.relative_to(folder).as_posix()
            mode = path.lstat().st_mode
            if stat.S_ISLNK(mode):
                raise BadInput(field="crate", value=name, limit="is a link, which may lead anywhere: a crate has none")
            if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
                raise BadInput(field="crate", value=name, limit="is no ordinary file")
            count += 1
            if count > MOST_FILES:
                raise BadInput(field="crate", value=f"over {MOST_FILES}", limit=f"at most {MOST_FILES} files")
            if stat.S_ISREG(mode):
                yield name


def _held(folder: Path, name: str) -> Held:
    path = folder / name

    def opened() -> IO[bytes]:
        # It may have become a link, or a pipe that never ends, since it was looked at.
        number = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        return os.fdopen(number, "rb")

    return Held(path.lstat().st_size, opened)


@contextmanager
def _of_zip(path: Path) -> Iterator[Crate]:
    try:
        with zipfile.ZipFile(path) as packed:
            yield _crate(_members(packed))
    except (zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError, EOFError, OSError) as error:
        raise BadInput(field="crate", value=path.name, limit=f"cannot be unpacked: {error}") from None


def _members(packed: zipfile.ZipFile) -> dict[str, Held]:
    members = packed.infolist()
    if len(members) > MOST_FILES:
        raise BadInput(field="crate", value=len(members), limit=f"at most {MOST_FILES} files")
    found: dict[str, Held] = {}
    for one in members:
        name = one.filename
        require_inside(name.rstrip("/"))
        if one.compress_type not in PACKED:
            raise BadInput(field="crate", value=name[:100], limit="is packed in another way than stored or deflated")
        if stat.S_ISLNK(one.external_attr >> 16):
            raise BadInput(field="crate", value=name, limit="is a link, which may lead anywhere: a crate has none")
        if one.is_dir():
            continue
        if name in found:
            raise BadInput(field="crate", value=name, limit="is in the file twice")
        found[name] = Held(one.file_size, partial(packed.open, one))
    return found


def require_inside(name: str) -> None:
    """Raise `BadInput` unless a name is a relative path that stays where it is."""
    parts = PurePosixPath(name).parts
    inside = name and not name.startswith(("/", "\\")) and ".." not in parts and "\\" not in name and "\0" not in name
    if not inside or len(name) > LONGEST_NAME or (len(name) > 1 and name[1] == ":"):
        limit = "must be a path within the crate, without .. and not absolute"
        raise BadInput(field="file of the crate", value=name[:100], limit=limit)


def _crate(files: dict[str, Held]) -> Crate:
    if METADATA not in files:
        raise BadInput(field="crate", value="no description", limit=f"must have {METADATA} at its top")
    document = read_json(METADATA, _text(METADATA, files[METADATA]))
    graph = document.get("@graph") if isinstance(document, dict) else None
    if not isinstance(graph, list) or not all(isinstance(one, dict) for one in graph):
        raise BadInput(field=METADATA, value="@graph", limit="must be a list of entities")
    ids = [one.get("@id") for one in graph]
    named = [one for one in ids if isinstance(one, str)]
    if not 1 <= len(ids) <= MOST_FILES or len(set(named)) < len(ids):
        limit = f"must be 1 to {MOST_FILES} entities, each with an @id of its own"
        raise BadInput(field=METADATA, value=f"{len(ids)} entities, {len(set(named))} ids", limit=limit)
    stated = tuple(_stated(one) for one in graph if _is_file(one))
    found = {name: _sha256(held) for name, held in files.items()}
    return Crate(files, {one["@id"]: one for one in graph}, found, tuple(_troubles(files, found, stated)))


def _is_file(entity: dict[str, Any]) -> bool:
    kinds = entity.get("@type")
    return "File" in (kinds if isinstance(kinds, list) else [kinds]) and "://" not in str(entity["@id"])


def _stated(entity: dict[str, Any]) -> Stated:
    name = unquote(str(entity["@id"])).removeprefix("./")
    require_inside(name)
    size, sha256 = entity.get("contentSize"), entity.get("sha256")
    if size is not None and not (str(size).isdecimal() and len(str(size)) < 20):
        raise BadInput(field=f"{name}: contentSize", value=str(size)[:50], limit="must be a number of bytes", unit="B")
    if sha256 is not None and not (isinstance(sha256, str) and len(sha256) == 64):
        raise BadInput(field=f"{name}: sha256", value=str(sha256)[:80], limit="must be 64 hexadecimal digits")
    return Stated(name, None if size is None else int(size), sha256)


def _troubles(files: dict[str, Held], found: dict[str, str], stated: tuple[Stated, ...]) -> Iterator[str]:
    for one in stated:
        held = files.get(one.name)
        if held is None:
            yield f"{one.name} is missing"
        elif one.sha256 is None:
            yield f"{one.name} has no sha256 stated"
        elif one.size is not None and held.size != one.size:
            yield f"{one.name} has {held.size} bytes, {one.size} are stated"
        elif found[one.name] != one.sha256:
            yield f"{one.name} is another: sha256 {found[one.name][:16]}..., {one.sha256[:16]}... is stated"
    known = {one.name for one in stated} | {METADATA}
    for name in sorted(set(files) - known):
        yield f"{name} is in the crate, and its description does not tell of it"


def _sha256(held: Held) -> str:
    """Of no more than the size that was claimed, empty where it is longer or shorter: a packed file may never end."""
    digest, left = hashlib.sha256(), held.size + 1
    with held.open() as file:
        while left > 0 and (piece := file.read(min(_PIECE, left))):
            digest.update(piece)
            left -= len(piece)
    return digest.hexdigest() if left == 1 else ""


def _text(name: str, held: Held) -> str:
    if held.size > LARGEST_TEXT:
        raise BadInput(field=name, value=held.size, limit=f"at most {LARGEST_TEXT}", unit="B")
    with held.open() as file:
        data = file.read(LARGEST_TEXT + 1)
    if len(data) > LARGEST_TEXT:
        raise BadInput(field=name, value="longer than it claims", limit=f"at most {LARGEST_TEXT}", unit="B")
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise BadInput(field=name, value="bytes", limit="must be text in UTF-8") from None


def read_json(name: str, text: str) -> Any:
    """JSON without NaN and without a name twice; raises `BadInput` for anything else."""

    def pairs(found: list[tuple[str, Any]]) -> dict[str, Any]:
        made: dict[str, Any] = {}
        for key, value in found:
            if key in made:
                raise ValueError(f"the name {key[:50]!r} stands twice in one place")
            made[key] = value
        return made

    def constant(word: str) -> Any:
        raise ValueError(f"{word} is no number")

    try:
        return json.loads(text, object_pairs_hook=pairs, parse_constant=constant)
    except RecursionError:
        raise BadInput(field=name, value="JSON", limit="is nested too deeply") from None
    except ValueError as error:
        raise BadInput(field=name, value="JSON", limit=f"cannot be read: {str(error)[:200]}") from None
