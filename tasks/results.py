"""An analysis with its results file: the same inputs, options and geometry are not worked out twice."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from stem4d.analyse.method import Given, NotPossible, Outcome
from stem4d.errors import BadInput
from stem4d.model import canonical_json, sha256_of
from storage.results import Results, read_results, write_results
from tasks.parts import Everywhere, Job, analysed

VERSION = 1
"""Raised whenever an analysis comes to another result for the same input: results of before are then not used again."""


@dataclass(frozen=True)
class Made:
    """An outcome and where it lies."""

    outcome: Outcome
    path: Path
    again: bool
    """False where the results lay there already."""
    made_from: Mapping[str, Any]


def result_of(
    job: Job, inputs: Sequence[str], folder: Path, *, again: bool = False, everywhere: Everywhere | None = None
) -> Made:
    """The results of a job: those that lie in the folder, or new ones.

    Parameters
    ----------
    job : Job
        What is analysed and how.
    inputs : sequence of str
        SHA-256 of each file that it reads.
    folder : Path
        Where results of this data set lie.
    again : bool
        Work them out even where they are there.
    everywhere : Everywhere, optional
        Where the ranges of rows are done.
    """
    made_from = {
        "method": job.method,
        "version": VERSION,
        "options": json.loads(canonical_json(job.options)),
        "given": _plain(job.given),
        "input_sha256": list(inputs),
    }
    key = sha256_of(json.dumps(made_from, sort_keys=True))[:12]
    path = folder / f"{job.method}-{key}.h5"
    if not again and path.is_file():
        found = _there(path)
        if found is not None and found.made_from == made_from:
            return Made(found.outcome, path, False, made_from)
    try:
        outcome = analysed(job, everywhere)
    except NotPossible as why:
        outcome = Outcome("not_possible", str(why), {})
    write_results(path, Results(job.method, outcome, made_from))
    return Made(outcome, path, True, made_from)


def _there(path: Path) -> Results | None:
    try:
        return read_results(path)
    except BadInput:
        return None


def _plain(given: Given) -> dict[str, Any]:
    """The geometry as JSON has it; an array by its shape and checksum."""
    plain = asdict(given)
    for name, value in plain.items():
        if isinstance(value, np.ndarray) and value.size > 2:
            whole = np.ascontiguousarray(value)
            plain[name] = f"{whole.dtype} {whole.shape} {hashlib.sha256(whole.tobytes()).hexdigest()}"
        elif isinstance(value, np.ndarray):
            plain[name] = value.tolist()
        elif isinstance(value, tuple):
            plain[name] = list(value)
    return plain
