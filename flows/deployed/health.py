"""The deployed flow that looks before a night whether it could run: the machine, its calibrations, its files."""

from functools import partial
from pathlib import Path

from prefect import flow
from prefect.states import State

from db.vocabulary import AskedBy
from flows.artifacts import show_table
from flows.deployed.taken_up import Ended, TakenUp, take_up
from flows.examine.line import Line
from flows.examine.looks import LOOKS
from flows.notify import tell_people
from flows.standing import looked_up
from stem4d.errors import BadInput


@flow(name="health", flow_run_name="health", persist_result=False, log_prints=False)
def health(night_file: str = "", source: AskedBy = "person", key: str = "") -> State[None]:
    """Look whether a night could run, and tell people where it could not; the instrument is not opened.

    Args:
        night_file: Night file (YAML) that is to run next: it is read, and what it needs is looked up. Empty: none.
        source: What asks.
        key: Its own name for this one time: the same is not done twice. Empty: this flow run.
    """
    return take_up("health", source, key, partial(_run, night_file=night_file))


def _run(begun: TakenUp, *, night_file: str) -> Ended:
    lines = [line for look in LOOKS for line in look(begun.settings)]
    if night_file:
        lines += _of_night(begun, Path(night_file))
    rows = [{"looked at": one.what, "ok": "yes" if one.ok else "NO", "found": one.found} for one in lines]
    if trouble := show_table("health", "what a night needs, as `nightbeam doctor` tells it", rows):
        begun.say(trouble)
    bad = [one for one in lines if not one.ok]
    for one in bad:
        begun.say(one.text)
    if not bad:
        return Ended("done", f"{len(lines)} things looked at, all well")
    words = "; ".join(f"{one.what}: {one.found}. {one.fix}" for one in bad)
    title = f"nightbeam: {len(bad)} of {len(lines)} things are not well"
    if trouble := tell_people(begun.settings, "needs_you", title, words):
        begun.say(f"no message: {trouble}")
    return Ended("failed", words)


def _of_night(begun: TakenUp, path: Path) -> list[Line]:
    """Whether a night's files are good, and which calibrations it would have to measure first."""
    from flows.night_file import read_night

    try:
        read = read_night(begun.settings, path, "go_on")
    except BadInput as error:
        return [Line(f"night {path.name}", False, str(error), "Mend its files")]
    lines = [Line(f"night {path.name}", True, f"{len(read.queued)} targets on {read.facts.name}")]
    stale: dict[str, list[str]] = {}
    for one in read.queued:
        try:
            for line in looked_up(begun.settings, read.facts, one.plan):
                if not line.good:
                    stale.setdefault(line.kind, []).append(one.target.name)
        except BadInput:
            break  # nothing was run here yet: all is measured
    found = "; ".join(f"{kind} for {', '.join(names[:3])}" for kind, names in stale.items())
    # No fault: the night measures them itself.
    return [*lines, Line("calibrations", True, f"to be measured: {found}" if found else "all are valid")]
