"""The stage that waits until the specimen has settled, watching it by reference scans of the plan's own area."""

from typing import Any

from stem4d.errors import BrokenOff, DoseRefused
from stem4d.predict import predict
from stem4d.quality.drift_seen import DriftSeen, Scans, drift_seen
from stem4d.quality.grade import grade
from stem4d.quality.remedies.remedy import Wait
from stem4d.quality.remedies.settle import waits_s
from stem4d.verdict import Verdict
from tasks.calibrated import Calibrated
from tasks.lab import lab
from tasks.means import mending_left_s
from tasks.reference import Reference
from tasks.stage import stage

STEADY = 0.9
"""Still this part of the first rate after as many as below: it does not settle, and no more dose is spent on that."""
STEADY_AFTER = 4
"""Rates from which on that is said."""


@stage("settle")
def settle(instrument: str, run: str, calibrated_json: str, wait: dict[str, float], runs: list[str]) -> dict[str, Any]:
    """Wait (`Wait`) until the drift is surely below a rate; gives whether it is, and why not."""
    opened, wanted = lab(instrument), Wait.model_validate(wait)
    plan = opened.runs[run].plan
    reference = Reference(opened, run, plan, Calibrated.model_validate_json(calibrated_json), "settling")
    left_s = mending_left_s(opened, runs) - predict(plan).total_time_s
    began_s = opened.instrument.now_s()
    speeds: list[float] = []
    last = "there is no time to look"
    try:
        for seconds in waits_s(left_s, wanted.baseline_s):
            if asked := opened.between():
                raise BrokenOff(f"{asked}, before it was exposed")
            opened.instrument.pause(seconds)
            rate = _rate(reference, wanted.baseline_s)
            waited_s = opened.instrument.now_s() - began_s
            if rate is None:
                last = "the reference scans show nothing that can be registered"
                opened.tell("settling", f"after {waited_s:.0f} s {last}", run, waited_s=round(waited_s, 1))
                continue
            speed, error = rate.speed_nm_per_min, rate.speed_uncertainty_nm_per_min
            verdict, _limit = grade(speed, error, hard=wanted.below_nm_per_min)
            last = f"it drifts {speed:.3g} ± {error:.2g} nm/min; below {wanted.below_nm_per_min:.3g} is waited for"
            figures = {"waited_s": round(waited_s, 1), "speed_nm_per_min": speed}
            opened.tell("settling", f"after {waited_s:.0f} s {last}", run, **figures)
            if verdict is Verdict.PASS:
                return {"settled": True, "reason": last}
            speeds.append(speed)
            if len(speeds) >= STEADY_AFTER and speeds[-1] > STEADY * speeds[0]:
                return {"settled": False, "reason": f"the specimen does not settle: after {waited_s:.0f} s {last}"}
    except DoseRefused as error:
        last = str(error)
    waited_s = opened.instrument.now_s() - began_s
    return {"settled": False, "reason": f"the specimen has not settled within {waited_s:.0f} s: {last}"}


def _rate(reference: Reference, baseline_s: float) -> DriftSeen | None:
    """The drift between two reference scans so far apart; None where they cannot be registered."""
    before_s, before, _path = reference.scan()
    reference.pause(baseline_s)
    after_s, after, _path = reference.scan()
    seen = drift_seen(Scans((before, after), (before_s, after_s), reference.step_nm))
    return seen if seen.ok else None
