"""The stage that makes sure of the calibrations a run cannot do without, and names all that it uses."""

from db.calibrations import CalibrationRecord, Standing, use_calibration
from db.engine import writer
from stem4d.errors import DeviceFault
from tasks.calibrations.kinds import FOR_EVERY_RUN, KINDS
from tasks.calibrations.measure import measure
from tasks.calibrations.standing import may_use, standings, together, usable
from tasks.lab import Lab, lab
from tasks.stage import stage


@stage("calibrate")
def calibrate(instrument: str, run: str) -> str:
    """Measure what every run needs where it is not valid, use what else is; gives ``Calibrated`` as JSON.

    Raises
    ------
    DeviceFault
        Where no disk or no plane can be fitted: a run without a known centre is not worth its dose.
    """
    opened = lab(instrument)
    plan = opened.runs[run].plan
    found = standings(opened, plan)
    known = usable(opened, found)
    if all(kind in known for kind in FOR_EVERY_RUN):
        opened.tell("calibrated", "calibrations of this mode are fresh and are used again", run)
    else:
        done = measure(opened, run, plan, FOR_EVERY_RUN, known)
        failed = [one.measured for one in done if not one.measured.usable]
        if failed:
            raise DeviceFault(next((one.reason for one in failed if one.verdict == "fail"), failed[0].reason))
        known = usable(opened, standings(opened, plan))
    _use(opened, run, found, known)
    return together(plan, known).model_dump_json()


def _use(opened: Lab, run: str, found: dict[str, Standing], known: dict[str, CalibrationRecord]) -> None:
    """Tie what is used to the run, and say what is there but must not be used."""
    accepted = {
        kind: one.why for kind, one in found.items() if one.state == "expired" and known.get(kind) == one.calibration
    }
    with writer(opened.engine) as session:
        for kind, record in known.items():
            use_calibration(
                session,
                run_id=opened.runs[run].id,
                calibration_id=record.id,
                role=kind,
                accepted_stale=accepted.get(kind),
            )
    for kind, why in accepted.items():
        opened.tell("stale calibration", f"{KINDS[kind].title} is used as it was told to be: {why}", run)
    for kind, one in found.items():
        if one.calibration and not may_use(opened, one) and kind not in known:
            opened.tell("stale calibration", f"{KINDS[kind].title} is not used: {one.why}", run)
