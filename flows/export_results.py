"""Results of analyses within a crate: their files with checksums, and what each was made of, how and by what."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from storage.crate import Part
from storage.disk import sha256_of_file

Facts = dict[str, Any]
FOLDER = "results/"


@dataclass(frozen=True)
class Analysed:
    """One analysis of a run: its results in the crate, or what is told of them where they stay behind."""

    facts: Facts
    """As `db.questions.show.show_run` lists it."""
    result_id: str
    part: Part | None = None
    """None where the file is elsewhere, or is that of another analysis too."""
    absent: tuple[str, Facts] | None = None

    @property
    def action_id(self) -> str:
        """Of the analysis in the crate's description."""
        return f"#analysis-{self.facts['id']}"

    def action(self, data: list[tuple[Part | None, str, Facts]], run: str) -> Facts:
        """What was done: method, options, inputs by their place in the crate, and what came of it."""
        one, inputs = self.facts, set(str(self.facts["summary"].get("input_sha256") or "").split())
        possible = one["verdict"] != "not_possible"
        options = one["summary"].get("options") or "the method's own"
        return {
            "@type": "CreateAction",
            "name": f"Analysis of run {run}: {one['method']}",
            "description": f"Options: {options}. {one['verdict'].replace('_', ' ')}: {one['reason']}",
            "actionStatus": f"http://schema.org/{'Completed' if possible else 'Failed'}ActionStatus",
            **({} if possible else {"error": one["reason"]}),
            "instrument": {"@id": "#nightbeam"},
            "agent": {"@id": "#nightbeam-agent"},
            "object": [{"@id": name} for _part, name, told in data if told["sha256"] in inputs],
            "result": [{"@id": self.result_id}],
        }


def results_of(facts: Facts, left_out: list[str]) -> Iterator[Analysed]:
    """Each analysis whose results are files of checksum; what is not on this machine any more is added to ``left_out``.

    A file that was worked out once more has another checksum than the result before it, which then is told of alone.
    """
    names: dict[str, str] = {}
    for one in facts["analyses"]:
        digest = _digest(one)
        if not digest:
            continue
        if digest in names:
            yield Analysed(one, names[digest])
            continue
        path = Path(one["path"] or "unknown")
        told = {
            "name": f"Results of {one['method']}: {one['verdict'].replace('_', ' ')}",
            "encodingFormat": "application/x-hdf5",
            "sha256": digest,
        }
        if path.is_file() and not path.is_symlink() and sha256_of_file(path) == digest:
            names[digest] = name = f"{FOLDER}{one['id']}-{path.name}"
            yield Analysed(one, name, Part(name, {"@type": "File", **told}, source=path, sha256=digest))
            continue
        left_out.append(f"{path}: these results are not here, or were worked out again since")
        name = f"#results-{one['id']}"
        described = {"@type": "CreativeWork", **told, "description": f"Not in this crate; it lay at {path}"}
        yield Analysed(one, name, None, (name, described))


def with_analyses_of(known: Facts, crate: Facts) -> Facts:
    """The record of a run without analyses that were made after the crate: they are not held against it."""
    there = crate.get("analyses")
    held = {one.get("id") for one in there if isinstance(one, dict)} if isinstance(there, list) else set()
    return {**known, "analyses": [one for one in known["analyses"] if one["id"] in held]}


def result_troubles(known: Facts, entities: dict[str, Facts], hashes: dict[str, str]) -> Iterator[str]:
    """Results that are neither in the crate nor said to be elsewhere, and files of which the record knows nothing."""
    recorded = {_digest(one) for one in known["analyses"]} - {""}
    there = {name: digest for name, digest in hashes.items() if name.startswith(FOLDER)}
    for one in known["analyses"]:
        digest, absent = _digest(one), entities.get(f"#results-{one['id']}")
        if digest and digest not in there.values() and (absent is None or absent.get("sha256") != digest):
            yield f"results of {one['method']} ({one['id']}) are neither in the crate nor said to be elsewhere"
    for name, digest in there.items():
        if digest not in recorded:
            yield f"{name} is none of the results that the record has of this run"


def _digest(one: Facts) -> str:
    return str((one["summary"] or {}).get("results_sha256") or "")
