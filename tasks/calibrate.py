"""The stage that makes sure of the calibrations a run cannot do without, and names all that it uses."""

from db.calibrations import CalibrationRecord, Standing
from db.operations import Use, UseCalibrations
from stem4d.errors import DeviceFault
from stem4d.plan import Plan
from stem4d.rules.limits import calibrations_of
from tasks.calibrated import Calibrated
from tasks.calibrations.applies import does_not_apply
from tasks.calibrations.kinds import FOR_EVERY_RUN, KINDS, kinds_for
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
        opened.tell("calibrated", f"used again, as they still hold for these settings: {', '.join(known)}", run)
    else:
        # Imported here: a run whose calibrations still hold is not kept waiting for the fits.
        from tasks.calibrations.measure import measure

        done = measure(opened, run, plan, FOR_EVERY_RUN, known)
        failed = [one.measured for one in done if not one.measured.usable]
        if failed:
            raise DeviceFault(next((one.reason for one in failed if one.verdict == "fail"), failed[0].reason))
        known = usable(opened, standings(opened, plan))
    _use(opened, run, found, known)
    calibrated = together(plan, known).model_dump_json()
    if lacking := lacking_in(opened, run, calibrated):
        standing = standings(opened, plan, lacking)
        words = "; ".join(f"{kind}, which {_needed_by(plan, kind)} needs ({standing[kind].why})" for kind in lacking)
        command = f"nightbeam calibrate {' '.join(lacking)} --plan PLAN --instrument INSTRUMENT"
        opened.tell("calibration missing", f"{words}. To measure: {command}", run)
    return calibrated


def lacking_in(opened: Lab, run: str, calibrated_json: str) -> tuple[str, ...]:
    """Kinds that the analyses of a run's plan need and that ``Calibrated`` as JSON does not rest on."""
    plan = opened.runs[run].plan
    have = Calibrated.model_validate_json(calibrated_json).calibration_ids
    return tuple(
        kind for kind in kinds_for(plan) if kind not in have and not does_not_apply(kind, opened.file.facts, plan)
    )


def _needed_by(plan: Plan, kind: str) -> str:
    """Kinds of the plan's analyses that need a kind of calibration, of which there is one at least."""
    return " and ".join(dict.fromkeys(each.kind for each in plan.analyses if kind in calibrations_of(each)))


def _use(opened: Lab, run: str, found: dict[str, Standing], known: dict[str, CalibrationRecord]) -> None:
    """Tie what is used to the run, and say what is there but must not be used."""
    accepted = {
        kind: one.why for kind, one in found.items() if one.state == "expired" and known.get(kind) == one.calibration
    }
    uses = tuple(
        Use(calibration=opened.recorder.calibration(record.id), role=kind, accepted_stale=accepted.get(kind))
        for kind, record in known.items()
    )
    opened.recorder.record(UseCalibrations(run=run, uses=uses))
    opened.memory.used[run] = {kind: record.id for kind, record in known.items()}
    for kind, why in accepted.items():
        opened.tell("stale calibration", f"{KINDS[kind].title} is used as it was told to be: {why}", run)
    for kind, one in found.items():
        if one.calibration and not may_use(opened, one) and kind not in known:
            opened.tell("stale calibration", f"{KINDS[kind].title} is not used: {one.why}", run)
