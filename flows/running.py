"""Which night runs on which instrument, and how it stands: from files and the database alone."""

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from db.dose import area_fluence, area_id
from db.engine import open_engine, reader
from db.questions.show import show_run
from devices.lease import is_owned, owner_pid
from stem4d.errors import BadInput, NightbeamError
from stem4d.names import plainly
from storage.orders import GOING, read_status
from storage.settings import Settings, instrument_folders


@dataclass(frozen=True)
class Running:
    """An instrument on which a night runs, or ran until its process died."""

    instrument: str
    folder: Path
    status: dict[str, Any]
    alive: bool = True


def running(settings: Settings, instrument: str | None) -> Running:
    """The night that runs, on the instrument of that name where one is given.

    Raises
    ------
    BadInput
        Where none runs, or on more than one instrument and none is named; of one whose process died, that it did.
    """
    known = [one for one in _folders(settings) if instrument in (None, one.instrument)]
    found = [one for one in known if one.alive]
    if len(found) == 1:
        return found[0]
    if found:
        names = ", ".join(one.instrument for one in found)
        raise BadInput(field="--instrument", value="none", limit=f"nights run on {names}", remedy="Name one of them")
    if known:
        dead = "; ".join(f"night {one.status.get('night', '(no name)')} on {one.instrument}" for one in known)
        raise BadInput(
            field="night",
            value=instrument or "any",
            limit=f"no night runs here: {dead} died without an end: its process is gone",
            remedy="`nightbeam recover` closes what it left; the same `nightbeam night FILE` goes on with it",
        )
    raise BadInput(
        field="night",
        value=instrument or "any",
        limit="no night runs here",
        remedy="`nightbeam show latest` tells of the last one",
    )


def idle(settings: Settings, instrument: str | None) -> dict[str, Any] | None:
    """Where no night runs and none died: what there is to say of that; None elsewhere, and of an unknown instrument."""
    if instrument is not None and instrument not in {folder.name for folder in instrument_folders(settings)}:
        return None
    if any(instrument in (None, one.instrument) for one in _folders(settings)):
        return None
    where = f" on {instrument}" if instrument else ""
    return {"state": "none runs", "words": f"no night runs here{where}; `nightbeam show latest` tells of the last one"}


def _folders(settings: Settings) -> list[Running]:
    """Every instrument whose last night has not said that it ended."""
    found = []
    for folder in instrument_folders(settings):
        status = read_status(folder)
        if status is None or status.get("state") not in GOING:
            continue
        # Another command may have the instrument after a night that was killed: the status is then a dead one's.
        alive = is_owned(folder) and status.get("pid") == owner_pid(folder)
        found.append(Running(folder.name, folder, status, alive))
    return found


def standing(settings: Settings, night: Running) -> dict[str, Any]:
    """The status of a night with the dose of its area and the figures of its run, as far as the database answers."""
    facts = {name: fact for name, fact in night.status.items() if name != "dose"}
    try:
        # A look makes no database in the place of one that is away.
        engine = open_engine(settings.database_url.get_secret_value(), new=False)
    except NightbeamError as error:
        return {**facts, "away": str(error)}
    try:
        with reader(engine) as session:
            target = _mapping(facts.get("target"))
            area = area_id(session, sample=str(target.get("sample", "")), area=str(target.get("area", "")))
            if area is not None:
                account = area_fluence(session, area_id=area)
                facts["dose"] = {
                    "budget_e_per_a2": account.budget_e_per_a2,
                    "delivered_e_per_a2": account.delivered_e_per_a2,
                    "reserved_e_per_a2": account.reserved_e_per_a2,
                }
            if facts.get("run"):
                facts["quality"] = _quality(show_run(session, name=str(facts["run"])))
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
    """How a night stands, for a person; what the file lacks, or has in another form, is left out."""
    target, quality, dose = (_mapping(facts.get(name)) for name in ("target", "quality", "dose"))
    words = {name: facts.get(name) or "" for name in ("stopping", "waiting_for", "stage", "predicted_end", "away")}
    parts = [f"{facts.get('night', 'a night')} on {facts.get('instrument', '?')} {facts.get('state', '?')}"]
    if words["stopping"]:
        parts[0] += f" ({words['stopping']})"
    if words["waiting_for"]:
        parts.append(f"waits: {words['waiting_for']}")
    if target:
        parts.append(f"target {target.get('number', '?')} of {facts.get('targets', '?')} ({target.get('name', '?')})")
    if words["stage"]:
        parts.append(" ".join(filter(None, (str(words["stage"]), _of_scan(_mapping(facts.get("scan")))))))
    if quality.get("verdict"):
        wrong = ", ".join(map(str, quality.get("wrong", ())))
        parts.append(f"quality so far {quality['verdict']}" + (f" ({wrong})" if wrong else ""))
    if dose:
        given = dose["delivered_e_per_a2"] + dose["reserved_e_per_a2"]
        parts.append(f"dose {given:.3g} of {dose['budget_e_per_a2']:.3g} e/Å² on {target.get('area')}")
    if ended := _mapping(facts.get("ended")):
        parts.append("so far " + ", ".join(f"{number} {state}" for state, number in ended.items()))
    if words["predicted_end"]:
        end = str(words["predicted_end"])[:16].replace("T", " ")
        parts.append(f"predicted end {end} UTC ({facts.get('predicted_left', '?')} left)")
    if words["away"]:
        parts.append(f"dose and quality are not known: {words['away']}")
    # The file may be anybody's: nothing of it is a line of ours.
    return plainly("; ".join(parts))


def _of_scan(scan: dict[str, Any]) -> str:
    with suppress(KeyError, TypeError, ValueError):
        share = scan["frames_done"] / max(scan["frames_total"], 1)
        losses = f", {scan['losses']}" if scan["losses"] else ""
        return f"{scan['name']}, {share:.0%} at {scan['frames_per_s']:,.0f} frames/s{losses}"
    return ""


def _mapping(found: object) -> dict[str, Any]:
    """What has to be a mapping, and nothing where it is something else."""
    return found if isinstance(found, dict) else {}
