"""Holds what was measured to how well its kind has to be known (`stem4d.calibrate.limits`)."""

from dataclasses import replace

import numpy as np

from stem4d.calibrate.limits import limits_of
from stem4d.plan import Plan
from tasks.calibrations.measured import Measured


def judged(one: Measured, plan: Plan) -> Measured:
    """What is usable and has standard errors beyond the limits of its kind becomes a warning that says so."""
    if not one.usable:
        return one
    doubts = [one.reason] if one.reason else []
    for limit in limits_of(one.kind, one.value, plan):
        error = (one.uncertainty or {}).get(limit.name)
        value = one.value.get(limit.of or limit.name, 0.0)
        if error is None or value is None:
            doubts.append(f"the standard error of {limit.name} is not known")
            continue
        # A pair has the limit of its longer part.
        size, most = float(np.max(np.abs(error))), limit.figure(float(np.max(np.abs(value))))
        if size > most:
            doubts.append(f"{limit.name} is known to {size:.2g} {limit.unit}, which is more than {most:.2g}".strip())
    return replace(one, verdict="warn", reason="; ".join(doubts)) if doubts else one
