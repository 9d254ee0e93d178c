"""A run as a crate that others can open: what the record knows, its files, and its provenance; and the way back."""

import json
import re
import socket
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

from db.clock import utc_now
from db.engine import Engine, reader
from db.questions.calibrations import measured_in
from db.questions.files import has_run
from db.questions.show import show_run
from flows.export_results import Analysed, result_troubles, results_of, with_analyses_of
from flows.prov import prov_of
from stem4d.errors import BadInput
from storage.crate import Described, Part, write_crate
from storage.crate_read import open_crate, read_json
from storage.settings import Settings

Facts = dict[str, Any]
RUN, PLAN, PROV, QUALITY, REPORT = "run.json", "plan.json", "prov.json", "quality.json", "report.html"
UNLICENSED = "No licence was stated for these data: ask their owner before using them."
MOST_DIFFERENCES = 50
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,200}")
"""File names that every system and every reader of crates takes."""
_STATUS = {
    "running": "ActiveActionStatus",
    "done": "CompletedActionStatus",
    "mended": "CompletedActionStatus",
    "marked": "CompletedActionStatus",
}


def document_of(engine: Engine, run: str) -> Facts:
    """What `nightbeam show RUN --json` gives; raises `BadInput` for an unknown run."""
    with reader(engine) as session:
        facts, measured = show_run(session, name=run), measured_in(session, run=run)
    told = [{name: value for name, value in one.items() if name != "curves"} for one in measured]
    return {**facts, "measured": told}


def export_run(
    engine: Engine, settings: Settings, run: str, target: Path, *, with_frames: bool = True, licence: str = UNLICENSED
) -> list[str]:
    """Write a run as a crate to a path that does not exist; gives what could not be taken along.

    Raises
    ------
    BadInput
        For an unknown run, a target that exists, or a file that is not the one that was recorded.
    """
    facts = document_of(engine, run)
    left_out: list[str] = []
    data = list(_data(facts, with_frames, left_out))
    analysed = list(results_of(facts, left_out))
    report = settings.reports_folder / f"{facts['name']}.html"
    documents = [
        _document(RUN, "All that the record knows of the run", facts),
        *(_document(name, _title_of(name), content) for name, content in _documents_of(facts).items()),
    ]
    if report.is_file() and not report.is_symlink():
        told = {"@type": "File", "name": "Report of the run", "encodingFormat": "text/html"}
        documents.append(Part(REPORT, told, source=report))
    write_crate(target, _described(facts, documents, data, analysed, licence))
    return left_out


def check_crate(engine: Engine, path: Path) -> tuple[str, list[str], str]:
    """Hold a crate against its own description and against the record; gives its run, what differs, and a remark.

    What later runs and people change is not held against it: balances of areas, attempts after it, and what became of
    calibrations since. The remark says where the record here does not know the run: a crate may come from anywhere.

    Raises
    ------
    BadInput
        Where it is no crate of ours, or tries to be more than a crate may.
    """
    with open_crate(path) as crate:
        found = crate.text(RUN)
        if found is None:
            raise BadInput(field="crate", value=path.name, limit=f"has no {RUN}: it is none of a run of nightbeam")
        facts = read_json(RUN, found)
        documents = {name: read_json(name, crate.text(name) or "null") for name in crate.files if _is_document(name)}
        troubles, entities, hashes = list(crate.troubles), crate.entities, crate.sha256
    name = facts.get("name") if isinstance(facts, dict) else None
    if not isinstance(name, str):
        raise BadInput(field=RUN, value="name", limit="must be the name of a run")
    with reader(engine) as session:
        if not has_run(session, name=name):
            return name, troubles[:MOST_DIFFERENCES], "the record here does not know it, so that it was held to itself"
    # By way of JSON, as the crate has it.
    known = with_analyses_of(json.loads(_json(document_of(engine, name))), facts)
    troubles += [f"{RUN}: {line}" for line in _differences("", _fixed(known), _fixed(facts))]
    for each, wanted in _documents_of(known).items():
        troubles += [f"{each}: {line}" for line in _differences("", _fixed(wanted), _fixed(documents.get(each)))]
    troubles += _data_troubles(known, entities, hashes)
    troubles += result_troubles(known, entities, hashes)
    status = (entities.get("#run") or {}).get("actionStatus")
    if status != _status_of(known):
        troubles.append(f"its description says that the run ended as {status}, and the record as {_status_of(known)}")
    return name, troubles[:MOST_DIFFERENCES], ""


def _is_document(name: str) -> bool:
    return name in (PLAN, PROV, QUALITY) or name.startswith("calibrations/")


def _documents_of(facts: Facts) -> dict[str, Any]:
    """What a crate holds of a run beside the run's own document and its files."""
    calibrations = {one["id"]: one for one in (*facts["calibrations"], *facts["measured"])}
    return {
        PLAN: facts["plan"]["document"],
        PROV: json.loads(prov_of(facts)),
        QUALITY: facts["quality"],
        **{f"calibrations/{number}.json": one for number, one in calibrations.items()},
    }


def _data_troubles(known: Facts, entities: dict[str, Facts], hashes: dict[str, str]) -> Iterator[str]:
    """Data that are neither in the crate nor said to be elsewhere, and data of which the record knows nothing."""
    recorded = {one["sha256"] for one in known["datasets"]}
    there = {name: digest for name, digest in hashes.items() if name.startswith("data/")}
    for one in known["datasets"]:
        absent = entities.get(f"#dataset-{one['id']}")
        if one["sha256"] not in there.values() and (absent is None or absent.get("sha256") != one["sha256"]):
            yield f"data set {one['id']} is neither in the crate nor said to be elsewhere"
    for name, digest in there.items():
        if digest not in recorded:
            yield f"{name} is none of the data sets that the record has of this run"


def _status_of(facts: Facts) -> str:
    return f"http://schema.org/{_STATUS.get(facts['state'], 'FailedActionStatus')}"


LATER = ("accounts", "children", "attempts", "superseded_by", "withdrawn", "delivered_e_per_a2", "reserved_e_per_a2")
"""What goes on changing after a run has ended; of an area all but its name and budget."""


def _fixed(facts: Any) -> Any:
    """What of a run or a calibration is not changed by what comes after it; anything else as it is."""
    if not isinstance(facts, dict):
        return facts

    def kept(one: Any) -> Any:
        return {key: value for key, value in one.items() if key not in LATER} if isinstance(one, dict) else one

    fixed = {key: value for key, value in facts.items() if key not in LATER}
    for part in ("calibrations", "measured"):
        if isinstance(fixed.get(part), list):
            fixed[part] = [kept(one) for one in fixed[part]]
    if isinstance(fixed.get("area"), dict):
        fixed["area"] = {key: fixed["area"].get(key) for key in ("name", "fluence_budget_e_per_a2")}
    return fixed


def _differences(path: str, known: Any, found: Any) -> Iterator[str]:
    if isinstance(known, dict) and isinstance(found, dict):
        for key in sorted({*known, *found}):
            where = f"{path}.{key}" if path else key
            if key not in known or key not in found:
                yield f"{where} is only in the {'crate' if key in found else 'record'}"
            else:
                yield from _differences(where, known[key], found[key])
    elif isinstance(known, list) and isinstance(found, list) and len(known) == len(found):
        for index, (one, other) in enumerate(zip(known, found, strict=True)):
            yield from _differences(f"{path}[{index}]", one, other)
    elif known != found:
        yield f"{path} is {json.dumps(found)[:80]} in the crate and {json.dumps(known)[:80]} in the record"


def _data(facts: Facts, with_frames: bool, left_out: list[str]) -> Iterator[tuple[Part | None, str, Facts]]:
    """Each dataset as a part, or as what is told of it where it stays behind; with its id in the crate."""
    names: set[str] = set()
    for one in facts["datasets"]:
        places = [Path(each["path"]) for each in one["locations"] if each["host"] == socket.gethostname()]
        path = next((each for each in places if each.is_file()), None)
        shape = " x ".join(str(size) for size in (*one["scan_shape"], *one["detector_shape"]))
        told = {
            "name": f"{one['purpose']} {one['pass_index'] + 1}, {shape} (scan_y, scan_x, det_y, det_x), {one['dtype']}",
            "encodingFormat": "application/x-hdf5",
            "sha256": one["sha256"],
            "contentSize": str(one["size_bytes"]),
        }
        if with_frames and path is not None:
            stem = f"data/{path.name if _NAME.fullmatch(path.name) else one['id']}"
            name = stem if stem not in names else f"data/{one['id']}-{path.name}"
            names.add(name)
            yield Part(name, {"@type": "File", **told}, source=path, sha256=one["sha256"]), name, told
            continue
        where = ", ".join(f"{each['path']} on {each['host']}" for each in one["locations"]) or "place not recorded"
        if with_frames:
            left_out.append(f"{where}: the file is not on this machine")
        yield None, f"#dataset-{one['id']}", {**told, "description": f"Not in this crate; it lay at {where}"}


def _document(name: str, title: str, content: Any) -> Part:
    told = {"@type": "File", "name": title, "encodingFormat": "application/json"}
    return Part(name, told, text=_json(content))


def _title_of(name: str) -> str:
    titles = {
        PLAN: "The plan of the run, as it was registered",
        PROV: "Provenance of the run, W3C PROV",
        QUALITY: "Figures of quality with their limits",
    }
    return titles.get(name, f"Calibration number {Path(name).stem}")


def _json(content: Any) -> str:
    return json.dumps(content, allow_nan=False, indent=1, ensure_ascii=False, default=str)


def _described(
    facts: Facts,
    documents: list[Part],
    data: list[tuple[Part | None, str, Facts]],
    analysed: list[Analysed],
    licence: str,
) -> Described:
    environment = facts["environment"] or {}
    version = (environment.get("packages") or {}).get("nightbeam", "unknown")
    revision, python = environment.get("code_revision", "unknown"), environment.get("python", "unknown")
    software = {
        "@type": "SoftwareApplication",
        "name": "nightbeam",
        "softwareVersion": version,
        "description": f"revision {revision}, Python {python}",
    }
    column = {
        "@type": "IndividualProduct",
        "name": facts["instrument"],
        "description": "Scanning transmission electron microscope",
    }
    absent = [(name, {"@type": "CreativeWork", **told}) for part, name, told in data if part is None]
    results = [name for _part, name, _told in data]
    made = [part.name for part in documents if part.name not in (PLAN, PROV)]
    used = [PLAN, *(part.name for part in documents if part.name.startswith("calibrations/"))]
    status = _STATUS.get(facts["state"], "FailedActionStatus")
    action = {
        "@type": "CreateAction",
        "name": f"Run {facts['name']}: {facts['plan']['name']} on area {facts['area']['name']} of {facts['sample']}",
        "startTime": facts["started"],
        **({"endTime": facts["ended"]} if facts["ended"] else {}),
        "actionStatus": _status_of(facts),
        **({"error": facts["exit_reason"] or facts["state"]} if status == "FailedActionStatus" else {}),
        "instrument": {"@id": "#nightbeam"},
        "participant": {"@id": "#instrument"},
        "agent": {"@id": "#nightbeam-agent"},
        "object": [{"@id": name} for name in used],
        "result": [{"@id": name} for name in (*results, *(name for name in made if name not in used))],
    }
    agent = {"@type": "Organization", "name": f"Whoever ran {facts['instrument']}: the record names no person"}
    return Described(
        name=f"nightbeam run {facts['name']}",
        description=f"4D-STEM of {facts['sample']}, area {facts['area']['name']}: {facts['state']}. "
        f"{facts['exit_reason'] or ''}".rstrip(),
        licence=licence,
        published=datetime.isoformat(utc_now()),
        action=action,
        more_actions=tuple((one.action_id, one.action(data, facts["name"])) for one in analysed),
        entities=(
            ("#nightbeam", software),
            ("#nightbeam-agent", agent),
            ("#instrument", column),
            *absent,
            *(one.absent for one in analysed if one.absent is not None),
        ),
        parts=(
            *documents,
            *(part for part, _name, _told in data if part is not None),
            *(one.part for one in analysed if one.part is not None),
        ),
    )
