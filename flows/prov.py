"""The provenance of a run as W3C PROV: what was used, what came of it, by what software on which instrument."""

from datetime import datetime
from typing import Any

from prov.model import ProvDocument

NAMESPACE = "https://nightbeam.invalid/"
"""Names within the document; nothing is there."""


def prov_of(facts: dict[str, Any]) -> str:
    """PROV-JSON of a run by what `db.questions.show.show_run` and the calibrations that it measured say."""
    document = ProvDocument()
    document.add_namespace("nightbeam", NAMESPACE)
    document.add_namespace("schema", "https://schema.org/")

    def name(kind: str, key: object) -> str:
        return f"nightbeam:{kind}-{key}"

    run = name("run", facts["name"])
    document.activity(
        run,
        datetime.fromisoformat(facts["started"]),
        datetime.fromisoformat(facts["ended"]) if facts["ended"] else None,
        {"nightbeam:state": facts["state"], "nightbeam:exit_reason": facts["exit_reason"] or ""},
    )
    software, instrument = name("software", "nightbeam"), name("instrument", facts["instrument"])
    environment = facts["environment"] or {}
    document.agent(
        software,
        {"prov:type": "prov:SoftwareAgent", "nightbeam:code_revision": environment.get("code_revision", "unknown")},
    )
    document.agent(instrument, {"schema:name": facts["instrument"]})
    document.wasAssociatedWith(run, software)
    document.wasAssociatedWith(run, instrument)
    plan = name("plan", facts["plan"]["sha256"])
    document.entity(plan, {"prov:type": "prov:Plan", "schema:name": facts["plan"]["name"]})
    document.used(run, plan)
    sample = name("specimen", facts["sample"])
    document.entity(sample, {"schema:name": facts["sample"], "nightbeam:area": facts["area"]["name"]})
    document.used(run, sample)
    if facts["parent"]:
        document.activity(name("run", facts["parent"]))
        document.wasInformedBy(run, name("run", facts["parent"]))
    own = {one["id"]: one for one in facts["measured"]}
    for one in {**{one["id"]: one for one in facts["calibrations"]}, **own}.values():
        calibration = name("calibration", one["id"])
        document.entity(
            calibration,
            {
                "nightbeam:kind": one["kind"],
                "nightbeam:verdict": one["verdict"],
                "nightbeam:measured_at": one["measured_at"],
            },
        )
        if one["id"] in own:
            document.wasGeneratedBy(calibration, run)
    for one in facts["calibrations"]:
        document.used(run, name("calibration", one["id"]), None, None, {"prov:role": one["role"]})
    for one in facts["datasets"]:
        dataset = name("dataset", one["id"])
        document.entity(
            dataset,
            {
                "nightbeam:sha256": one["sha256"],
                "nightbeam:size_bytes": one["size_bytes"],
                "nightbeam:frames": one["frames"],
                "nightbeam:complete": one["complete"],
            },
        )
        document.wasGeneratedBy(dataset, run)
        for parent in one["parents"]:
            document.entity(name("dataset", parent))
            document.wasDerivedFrom(dataset, name("dataset", parent))
    for one in facts["analyses"]:
        analysis = name("analysis", one["id"])
        told = one["summary"] or {}
        document.entity(
            analysis,
            {
                "nightbeam:method": one["method"],
                "nightbeam:verdict": one["verdict"],
                "nightbeam:options": str(told.get("options") or ""),
                "nightbeam:results_sha256": str(told.get("results_sha256") or ""),
            },
        )
        document.wasGeneratedBy(analysis, run)
        inputs = str(told.get("input_sha256") or "").split()
        for each in (dataset for dataset in facts["datasets"] if dataset["sha256"] in inputs):
            document.wasDerivedFrom(analysis, name("dataset", each["id"]))
    return str(document.serialize(format="json"))
