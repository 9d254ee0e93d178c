"""The rules that a plan is checked against: will this experiment answer the question?"""

from stem4d.rules import (
    approach,
    calibration,
    detector,
    fluence,
    instrument,
    intensity,
    plausible,
    rates,
    real_space,
    reciprocal,
    sampling,
    time_and_space,
)
from stem4d.rules.advice import apply_change
from stem4d.rules.check import PlanCheck, check
from stem4d.rules.limits import LIMITS, Limit
from stem4d.rules.registry import RULES, Calibrated, Rule

RULE_MODULES = (
    reciprocal,
    sampling,
    intensity,
    rates,
    fluence,
    real_space,
    time_and_space,
    instrument,
    detector,
    calibration,
    plausible,
    approach,
)
"""Where the rules are: importing them fills ``RULES``."""

__all__ = ["LIMITS", "RULES", "RULE_MODULES", "Calibrated", "Limit", "PlanCheck", "Rule", "apply_change", "check"]
