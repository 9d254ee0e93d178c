"""Reads foreign files in a child process with limits; this side trusts nothing that the child says.

RosettaSciIO is GPL-3 and an optional extra, so only the child (``storage.foreign_child``) imports it.
"""

import os
import select
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryFile
from types import TracebackType
from typing import IO, Literal, Self

import numpy as np
import numpy.typing as npt
from pydantic import Field, ValidationError

from stem4d.errors import BadInput
from stem4d.model import Count, Strict
from storage.frames import BATCH_BYTES, Array, Batch, ChunkBatch, check_claim, frames_per_batch
from storage.spec import Fact

COMMAND = (sys.executable, "-m", "storage.foreign_child")
INSTALL = "pip install 'nightbeam[formats]'"
DAMAGED = "The file may be truncated or damaged; copy it again from its source"
NO_READER = "no reader for"
READABLE = "Give HDF5 of any make, .mib, .blo, .dm4 or an EMPAD's .xml; of a header and frames, name the frames' file"
HEADER_BYTES = 256 * 1024
COMPLAINT_BYTES = 2**20
OUT_OF_MEMORY = 77
"""Exit code of a child that ran into its memory limit."""


@dataclass(frozen=True)
class ChildLimits:
    """What the reader process may use before it is killed."""

    memory_bytes: int = 4 * 2**30
    first_answer_s: float = 60.0
    """Wall time to the shape of the data."""
    batch_s: float = 60.0
    """Wall time for a batch of frames."""
    cpu_s: int = 3600


class Header(Strict):
    """What the child says first: the shape, or why there is none."""

    error: str = ""
    refused: dict[str, str] = Field(default_factory=dict)
    """A ``BadInput`` of the child's, as its ``as_dict`` gives it."""
    scan_shape: tuple[Count, Count] = (1, 1)
    detector_shape: tuple[Count, Count] = (1, 1)
    dtype: str = Field(default="uint8", pattern=r"^(u?int(8|16|32|64)|float(16|32|64))$")
    full_scale: Count | None = None
    metadata: dict[str, float | int | str | bool] = Field(default_factory=dict)
    files: tuple[str, ...] = ()
    """Names of what it is read from: header and data of some formats are files of their own."""


class ForeignFrames:
    """A data set that a child process reads for us. See ``storage.frames.Frames``."""

    kind: Literal["foreign"] = "foreign"

    def __init__(self, path: Path, limits: ChildLimits) -> None:
        self.path = path
        self._limits = limits
        self._child = _Child(path, limits)
        self._at: int | None = 0
        """Position that the child gives next; None where it is ended."""
        try:
            header = self._header = self._child.header()
            self.scan_shape, self.detector_shape = header.scan_shape, header.detector_shape
            self.dtype: np.dtype[np.generic] = np.dtype(header.dtype)
            check_claim(path.name, self.scan_shape + self.detector_shape, self.dtype, bytes_beside(path))
        except BaseException:
            self.close()
            raise
        self.full_scale = header.full_scale
        real = path.resolve()
        self.beside = tuple(real.parent / name for name in header.files if name != real.name)
        self.metadata: Mapping[str, Fact] = dict(header.metadata)
        self.recorded: npt.NDArray[np.bool_] = np.ones(self.scan_shape, np.bool_)
        self.came_twice = self.corrupt = None

    def batches(self, max_bytes: int = BATCH_BYTES, first: int = 0, stop: int | None = None) -> Iterator[Batch]:
        """All frames as (first position, frames (n, det_y, det_x)); one pass at a time; ``first`` begins a row."""
        most = frames_per_batch(self.detector_shape, self.dtype, max_bytes)
        whole = self.scan_shape[0] * self.scan_shape[1]
        end = whole if stop is None else stop
        child = self._child_at(first, most)
        at = first
        while at < end:
            if self._at != at or self._child is not child:
                raise BadInput(field=self.path.name, value=f"frame {at}", limit="is read by one pass at a time")
            frames = self._next(min(most, end - at))
            yield at, frames
            at += len(frames)
        if end == whole:
            self.close()

    def chunks(self, most: int) -> Iterator[ChunkBatch] | None:
        """None: whatever else wrote a file, its frames come unpacked out of the child."""
        return None

    def online(self) -> Mapping[str, Array]:
        """Nothing: a foreign file has no maps of ours."""
        return {}

    def close(self) -> None:
        """End the child."""
        self._at = None
        self._child.kill()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _next(self, number: int) -> Array:
        """So many frames from where the child stands."""
        frames = np.empty((number, *self.detector_shape), self.dtype)
        at, self._at = self._at or 0, None
        try:
            self._child.read_into(frames.reshape(-1).view(np.uint8).data, f"at frame {at}")
        except BaseException:
            self._child.kill()
            raise
        self._at = at + number
        return frames

    def _child_at(self, first: int, most: int) -> "_Child":
        """The child, standing at a position: as it is, after a few frames that nobody wants, or begun anew."""
        frame_bytes = int(np.prod(self.detector_shape)) * self.dtype.itemsize
        if self._at is None or not 0 <= (first - self._at) * frame_bytes <= BATCH_BYTES:
            self.close()
            self._child = _Child(self.path, self._limits, first)
            if self._child.header() != self._header:
                self._child.kill()
                raise BadInput(field=self.path.name, value="another shape", limit="the file changed while it was read")
            self._at = first
        while self._at < first:
            self._next(min(most, first - self._at))
        return self._child


def require_reader(path: Path) -> None:
    """Raise ``BadInput`` with the command to type where RosettaSciIO is not installed."""
    if find_spec("rsciio") is None:
        raise BadInput(
            field=path.name,
            value=path.suffix,
            limit="is not HDF5, and other formats need RosettaSciIO, which is not installed",
            remedy=f"Run: {INSTALL}",
        )


def open_foreign(path: Path, limits: ChildLimits) -> ForeignFrames:
    """Start the reader process for a file and return once it has told the shape of the data."""
    return ForeignFrames(path, limits)


class _Child:
    """The reader process, its pipe, and what is to be said when it fails."""

    def __init__(self, path: Path, limits: ChildLimits, first: int = 0) -> None:
        self._name, self._limits = path.name, limits
        packages = str(Path(__file__).resolve().parents[1])
        self._complaints: IO[bytes] = TemporaryFile()  # noqa: SIM115 - lives as long as the child
        limit_texts = [str(limits.memory_bytes), str(bytes_beside(path)), str(limits.cpu_s), str(first)]
        self._process = subprocess.Popen(  # noqa: S603 - our own module, no shell
            [*COMMAND, str(path.resolve()), *limit_texts],
            stdin=subprocess.PIPE,  # held open by us alone: its end tells the child that we are gone
            stdout=subprocess.PIPE,
            stderr=self._complaints,
            bufsize=0,
            cwd=packages,  # where -m finds our packages and no folder of the user's can shadow them
            env={**os.environ, "PYTHONPATH": packages, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
            start_new_session=True,
        )
        assert self._process.stdout is not None
        self._output = self._process.stdout

    def header(self) -> Header:
        """What the child says of the data, checked."""
        deadline = time.monotonic() + self._limits.first_answer_s
        size = bytearray(4)
        self._fill(memoryview(size), deadline, "before the shape of the data")
        (length,) = struct.unpack(">I", size)
        if length > HEADER_BYTES:
            raise self._refused(f"a header of {length:,} B", f"at most {HEADER_BYTES:,} B")
        text = bytearray(length)
        self._fill(memoryview(text), deadline, "within the header")
        try:
            header = Header.model_validate_json(bytes(text))
        except ValidationError as error:
            raise self._refused(f"header: {error.errors()[0]['msg']}", "shape, type and facts expected") from error
        if header.refused:
            self.kill()
            raise rebuilt(header.refused)
        if header.error:
            remedy = READABLE if header.error.startswith(NO_READER) else DAMAGED
            raise self._refused(header.error, "not readable as what its name says", remedy)
        return header

    def read_into(self, room: memoryview, what: str) -> None:
        """Fill a buffer with the next frames."""
        self._fill(room, time.monotonic() + self._limits.batch_s, what)

    def kill(self) -> None:
        """End the child and everything it started; harmless when repeated."""
        if self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        for stream in (self._process.stdin, self._output, self._complaints):
            if stream is not None:
                stream.close()

    def _fill(self, room: memoryview, deadline: float, what: str) -> None:
        done = 0
        while done < len(room):
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([self._output], [], [], left)[0]:
                limits = f"{self._limits.first_answer_s:g} s for the shape, {self._limits.batch_s:g} s a batch"
                raise self._refused(f"no answer {what}", f"the reader has {limits}")
            part = os.read(self._output.fileno(), min(len(room) - done, 2**20))
            if not part:
                raise self._died(what)
            room[done : done + len(part)] = part
            done += len(part)

    def _died(self, what: str) -> BadInput:
        code = self._process.wait()
        limits = self._limits
        if code == OUT_OF_MEMORY:
            return self._refused(f"out of memory {what}", f"the reader may use {limits.memory_bytes:,} B")
        if code in (-signal.SIGXCPU, -signal.SIGKILL):
            return self._refused(f"killed {what}", f"the reader may use {limits.cpu_s} s of processor time")
        self._complaints.seek(0)
        lines = self._complaints.read(COMPLAINT_BYTES).decode(errors="replace").strip().splitlines()
        why = f": {lines[-1]}" if lines else ""
        return self._refused(f"reader ended with code {code} {what}{why}", "all frames expected")

    def _refused(self, value: str, limit: str, remedy: str = DAMAGED) -> BadInput:
        self.kill()
        return BadInput(field=self._name, value=value, limit=limit, remedy=remedy)


@dataclass(frozen=True)
class _Shown:
    """A value that has been made fit for a message already."""

    text: str

    def __repr__(self) -> str:
        return self.text


def rebuilt(facts: Mapping[str, str]) -> BadInput:
    """A refusal that a child sent as ``BadInput.as_dict`` gives it."""
    field, value, limit, unit, remedy = (facts.get(name, "") for name in ("field", "value", "limit", "unit", "remedy"))
    return BadInput(field=field, value=_Shown(value), limit=limit, unit=unit, remedy=remedy)


def bytes_beside(path: Path) -> int:
    """Bytes of all files in the folder: a format may keep its frames in a second file, of whatever name."""
    return sum(entry.stat().st_size for entry in os.scandir(path.resolve().parent) if entry.is_file())
