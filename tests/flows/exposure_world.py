"""Passes alone, without the calibrations that a run makes before them: what the tests of lease and dose share."""

from typing import Any

from db.engine import reader
from db.questions.show import show_run
from stem4d.model import canonical_json
from stem4d.plan import Plan
from tasks.calibrated import uncalibrated
from tasks.lab import Lab
from tasks.passes import expose
from tasks.record import close_run, open_run


def begin(opened: Lab, plan: Plan) -> str:
    """Open a run; gives its name."""
    return str(open_run.fn(opened.file.name, canonical_json(plan), None, []))


def expose_all(opened: Lab, run: str, current_ratio: float = 1.0) -> dict[str, Any]:
    """Make the passes of a run as its plan has them; ``current_ratio`` is what a calibration would have measured."""
    known = uncalibrated(opened.runs[run].plan).model_copy(update={"current_ratio": current_ratio})
    return dict(expose.fn(opened.file.name, run, known.model_dump_json()))


def whole_run(opened: Lab, plan: Plan, current_ratio: float = 1.0) -> str:
    """Open a run, make its passes and close it; gives its name."""
    run = begin(opened, plan)
    done = expose_all(opened, run, current_ratio)
    close_run.fn(opened.file.name, run, "done", "", done)
    return run


def booked(opened: Lab, run: str) -> list[dict[str, Any]]:
    """What the ledger has of a run's exposures."""
    with reader(opened.engine) as session:
        return list(show_run(session, name=run)["exposures"])
