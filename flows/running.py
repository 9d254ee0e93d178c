"""Which night runs on which instrument, and how it stands: from files and the database alone."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from db.dose import area_fluence, area_id
from db.engine import open_engine, reader
from db.questions.show import show_run
from devices.lease import is_owned, owner_pid
from stem4d.errors import BadInput, NightbeamError
from storage.orders import read_status
from storage.settings import Settings


@dataclass(frozen=True)
class Running:
    """An instrument on which a night runs."""

    instrument: str
    folder: Path
    status: dict[str, Any]


def running(settings: Settings, instrument: str | None) -> Running:
    """The night that runs, on the instrument of that name where one is given.

    Raises
    ------
    BadInput
        Where none runs, or on more than one instrument and none is named.
    """
    found = [one for one in _folders(settings) if instrument in (None, one.instrument)]
    if len(found) == 1:
        return found[0]
    if found:
        names = ", ".join(one.instrument for one in found)
        raise BadInput(field="--instrument", value="none", limit=f"nights run on {names}", remedy="Name one of them")
    raise BadInput(
        field="night",
        value=instrument or "any",
        limit="no night runs here",
        remedy="`nightbeam show latest` tells of the last one",
    )


def _folders(settings: Settings) -> list[Running]:
    try:
        folders = sorted(path for path in settings.instruments_folder.iterdir() if path.is_dir())
    except FileNotFoundError:
        return []
    found = []
    for folder in folders:
        status = read_status(folder)
        # Another command may have the instrument after a night that was killed: the status is then a dead one's.
        if status is not None and is_owned(folder) and status.get("pid") == owner_pid(folder):
            found.append(Running(folder.name, folder, status))
    return [one for one in found if one.status.get("state") in ("running", "paused", "waiting")]


def standing(settings: Settings, night: Running) -> dict[str, Any]:
    """The status of a night with the dose of its area and the figures of its run, as far as the database answers."""
    facts = dict(night.status)
    try:
        # A look makes no database in the place of one that is away.
        engine = open_engine(settings.database_url.get_secret_value(), new=False)
    except NightbeamError as error:
        return {**facts, "away": str(error)}
    try:
        with reader(engine) as session:
            target = facts.get("target") or {}
            area = area_id(session, sample=target.get("sample", ""), area=target.get("area", ""))
            if area is not None:
                account = area_fluence(session, area_id=area)
                facts["dose"] = {
                    "budget_e_per_a2": account.budget_e_per_a2,
                    "delivered_e_per_a2": account.delivered_e_per_a2,
                    "reserved_e_per_a2": account.reserved_e_per_a2,
                }
            if facts.get("run"):
                facts["quality"] = _quality(show_run(session, name=facts["run"]))
    except NightbeamError as error:
        facts["away"] = str(error)
    finally:
        engine.dispose()
    return facts


def _quality(shown: dict[str, Any]) -> dict[str, Any]:
    """What was judged of a run so far: the worst verdict, and what fails or is doubtful."""
    judged = [one for one in shown["quality"] if one["stage"] != "plan"]
    worst = next((word for word in ("fail", "warn", "pass") if any(one["verdict"] == word for one in judged)), None)
    wrong = sorted({one["metric"] for one in judged if one["verdict"] in ("fail", "warn")})
    return {"verdict": worst, "wrong": wrong, "attempt": shown["attempt"]}


def in_one_line(facts: dict[str, Any]) -> str:
    """How a night stands, for a person."""
    target, scan, quality = facts.get("target"), facts.get("scan"), facts.get("quality") or {}
    parts = [f"{facts['night']} on {facts['instrument']} {facts['state']}"]
    if facts.get("stopping"):
        parts[0] += f" ({facts['stopping']})"
    if facts.get("waiting_for"):
        parts.append(f"waits: {facts['waiting_for']}")
    if target:
        parts.append(f"target {target['number']} of {facts['targets']} ({target['name']})")
    if facts.get("stage"):
        parts.append(facts["stage"] + (f" {_of_scan(scan)}" if scan else ""))
    if quality.get("verdict"):
        parts.append(
            f"quality so far {quality['verdict']}" + (f" ({', '.join(quality['wrong'])})" if quality["wrong"] else "")
        )
    if dose := facts.get("dose"):
        given = dose["delivered_e_per_a2"] + dose["reserved_e_per_a2"]
        parts.append(f"dose {given:.3g} of {dose['budget_e_per_a2']:.3g} e/Å² on {(target or {}).get('area')}")
    if ended := facts.get("ended"):
        parts.append("so far " + ", ".join(f"{number} {state}" for state, number in ended.items()))
    if facts.get("predicted_end"):
        parts.append(
            f"predicted end {facts['predicted_end'][:16].replace('T', ' ')} UTC ({facts['predicted_left']} left)"
        )
    if facts.get("away"):
        parts.append(f"dose and quality are not known: {facts['away']}")
    return "; ".join(parts)


def _of_scan(scan: dict[str, Any]) -> str:
    share = scan["frames_done"] / max(scan["frames_total"], 1)
    losses = f", {scan['losses']}" if scan["losses"] else ""
    return f"{scan['name']}, {share:.0%} at {scan['frames_per_s']:,.0f} frames/s{losses}"
