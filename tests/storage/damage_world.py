"""Files of known frames, what a writer that died leaves of them, and damage that is done to them on purpose."""

import hashlib
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import h5py
import numpy as np
import numpy.typing as npt

from storage import layout
from storage.contents import contents_of
from storage.findings import Findings, findings
from storage.spec import FileSpec
from storage.unclosed import Unclosed
from storage.verify import state_of, troubles_of
from storage.write import FrameWriter
from tests.storage.storage_world import counts, spec_at

DUPLICATE, CORRUPT, MISSING = 4, 6, 9
"""Positions that ``mixed`` leaves so."""


class Place(NamedTuple):
    """Where something lies in a file."""

    offset: int
    size: int


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def mixed(writer: FrameWriter, upto: int) -> None:
    """The first frames of ``counts``, one of them repeated, one that was no frame, one that never came."""
    frames = counts(writer.spec)
    for first in range(0, upto, 10):
        for position in range(first, min(first + 10, upto)):
            if position not in (CORRUPT, MISSING):
                writer.write(position, frames[position : position + 1])
    writer.mark_duplicate(DUPLICATE)
    writer.mark_corrupt(CORRUPT, b"no frame")


def left_behind(path: Path, scan: tuple[int, int] = (8, 10), upto: int = 60, side: int = 16) -> FileSpec:
    """What is on the disk when a writer is killed after a flush: the bytes of its file as they are then."""
    spec = spec_at(path, scan, (side, side))
    with TemporaryDirectory() as folder, FrameWriter(spec_at(Path(folder) / "a.h5", scan, (side, side))) as writer:
        mixed(writer, upto)
        writer.flush()
        shutil.copy(writer.spec.partial, spec.partial)
    return spec


def finished(path: Path, scan: tuple[int, int] = (3, 5), side: int = 16) -> FileSpec:
    """A file that was closed, with a position of each state."""
    spec = spec_at(path, scan, (side, side))
    with FrameWriter(spec) as writer:
        mixed(writer, spec.positions)
        writer.finish({})
    return spec


def recorded_of(spec: FileSpec, upto: int | None = None) -> list[int]:
    """The positions that ``mixed`` writes a frame to."""
    return [one for one in range(spec.positions if upto is None else upto) if one not in (CORRUPT, MISSING)]


def chunks_of(path: Path, name: str = layout.FRAMES) -> dict[int, Place]:
    """Where the chunks of a data set lie, by their first position."""
    found: dict[int, Place] = {}
    with Unclosed(path) as view, h5py.File(view, "r") as file:
        data = file[name]
        columns = data.shape[1] if data.ndim > 1 else 1

        def note(chunk: h5py.h5d.StoreInfo) -> None:
            first, *rest = chunk.chunk_offset
            found[first * columns + rest[0] if rest else first] = Place(chunk.byte_offset, chunk.size)

        data.id.chunk_iter(note)
    return found


def flip(path: Path, offset: int, bit: int) -> None:
    """Change one bit of a file; twice is as before."""
    with path.open("r+b") as stream:
        stream.seek(offset)
        (old,) = stream.read(1)
        stream.seek(offset)
        stream.write(bytes([old ^ 1 << bit]))


@contextmanager
def flipped(path: Path, offset: int, bit: int) -> Iterator[None]:
    flip(path, offset, bit)
    try:
        yield
    finally:
        flip(path, offset, bit)


def found_in(path: Path) -> Findings:
    """The findings, taken in this process: a child for each case would take minutes."""
    with contents_of(path) as (view, contents):
        return findings(view, contents, lambda _: None)


def told_of(path: Path) -> list[str]:
    return troubles_of(state_of(path), found_in(path))


def positions_of(found: Iterable[tuple[int, int]]) -> list[int]:
    """The single positions of stretches."""
    return [position for first, last in found for position in range(first, last + 1)]


def accused(found: Findings) -> set[int]:
    """Every position that something is wrong with."""
    return set(positions_of((*found.damaged, *found.lost, *found.unvouched, *found.ledger_damaged, *found.ledger_cut)))


def frames_in(path: Path) -> dict[int, npt.NDArray[np.generic]]:
    """Frames of a closed file by position, read by h5py alone."""
    with h5py.File(path, "r") as file:
        states, data = file[layout.LEDGER_STATE][:], file[layout.FRAMES][:]
    kept = np.flatnonzero(np.isin(states, (layout.OK, layout.DUPLICATE)))
    return dict(zip(kept.tolist(), data.reshape(-1, *data.shape[2:])[kept], strict=True))
