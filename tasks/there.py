"""What a worker of a cluster does: a range of rows, after it made sure that it is the right worker for it."""

import socket
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from stem4d.analyse.method import Array, NotPossible, Parts
from stem4d.errors import BadInput
from storage.mark import mark_of
from tasks.parts import Job, part_of


@dataclass(frozen=True)
class Asked:
    """What the workers are told once of an analysis."""

    installed: str
    """Version of nightbeam where the parts are joined."""
    mark: str
    """Of the file there (``storage.mark``)."""
    job: Job
    prepared: Parts


@dataclass(frozen=True)
class Unfit:
    """Why a worker cannot do a range; another one may."""

    words: str


Answer = dict[str, Array] | BadInput | NotPossible | Unfit
"""What is no fault of the machine is an answer, since a cluster would try it again."""


def installed() -> str:
    """Version of nightbeam in this process."""
    try:
        return version("nightbeam")
    except PackageNotFoundError:
        return "none"


def part_there(asked: Asked, first: int, stop: int) -> Answer:
    """Rows first to stop - 1, or why not."""
    here = socket.gethostname()
    if installed() != asked.installed:
        words = f"has nightbeam {installed()}, and this analysis is of {asked.installed}: install the same version"
        return Unfit(f"the worker on {here} {words}")
    try:
        mark = mark_of(Path(asked.job.path))
    except OSError as error:
        words = f"cannot read {asked.job.path} ({error.strerror}): it has to see the file under this name"
        return Unfit(f"the worker on {here} {words}")
    if mark != asked.mark:
        return Unfit(f"the worker on {here} has another file at {asked.job.path}: it has to see the same one")
    try:
        return part_of(asked.job, asked.prepared, first, stop)
    except (BadInput, NotPossible) as why:
        return why
