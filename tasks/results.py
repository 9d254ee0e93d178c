"""An analysis with its results file: the same inputs, options and geometry are not worked out twice."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from math import isfinite
from pathlib import Path
from typing import Any

import numpy as np

from stem4d.analyse.method import Given, NotPossible, Outcome
from stem4d.errors import BadInput
from stem4d.model import Strict, canonical_json, sha256_of
from storage.disk import sha256_of_file
from storage.results import Results, finite, read_results, write_results
from tasks.parts import Everywhere, Job, analysed

VERSION = 2
"""Raised whenever an analysis comes to another result for the same input: results of before are then not used again."""

MOST_TEXT = 200
"""Characters of an option that stands in a record as it is."""


@dataclass(frozen=True)
class Made:
    """An outcome and where it lies."""

    outcome: Outcome
    path: Path
    again: bool
    """False where the results lay there already."""
    made_from: Mapping[str, Any]

    def summary(self) -> dict[str, Any]:
        """Figures for the record, with what they rest on; what could not be worked out is None."""
        options = self.made_from["options"]
        return {
            **finite(self.outcome.figures),
            "options": ", ".join(f"{name}={_short(value)}" for name, value in options.items() if name != "kind"),
            "input_sha256": " ".join(self.made_from["input_sha256"]),
            "results_sha256": sha256_of_file(self.path),
        }


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
    made_from = _made_from(job.method, job.options, job.given, inputs)
    path = folder / _name(made_from)
    if not again and path.is_file():
        found = _there(path)
        if found is not None and found.made_from == made_from:
            return Made(found.outcome, path, False, made_from)
    try:
        outcome = _numbers(analysed(job, everywhere))
    except NotPossible as why:
        outcome = Outcome("not_possible", str(why), {})
    return _written(path, outcome, made_from)


def _numbers(outcome: Outcome) -> Outcome:
    """Nothing is good whose figures are no numbers."""
    none = sorted(name for name, value in outcome.figures.items() if isinstance(value, float) and not isfinite(value))
    if outcome.verdict != "good" or not none:
        return outcome
    return replace(outcome, verdict="doubtful", reason=f"{outcome.reason} No number came out for {', '.join(none)}.")


def kept(method: str, outcome: Outcome, given: Given, options: Strict, inputs: Sequence[str], folder: Path) -> Made:
    """An outcome that was made elsewhere, as results of the same kind."""
    made_from = _made_from(method, options, given, inputs)
    return _written(folder / _name(made_from), outcome, made_from)


def _written(path: Path, outcome: Outcome, made_from: Mapping[str, Any]) -> Made:
    write_results(path, Results(made_from["method"], outcome, made_from))
    return Made(outcome, path, True, made_from)


def _short(value: Any) -> str:
    """An option in a record; a crystal or a mask by its checksum, of which the results file has the whole."""
    text = str(value)
    return text if len(text) <= MOST_TEXT else f"SHA-256 {sha256_of(text)[:12]} of {len(text)} characters"


def _made_from(method: str, options: Strict, given: Given, inputs: Sequence[str]) -> dict[str, Any]:
    return {
        "method": method,
        "version": VERSION,
        "options": json.loads(canonical_json(options)),
        "given": _plain(given),
        "input_sha256": list(inputs),
    }


def _name(made_from: Mapping[str, Any]) -> str:
    return f"{made_from['method'].replace(' ', '-')}-{sha256_of(json.dumps(made_from, sort_keys=True))[:12]}.h5"


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
