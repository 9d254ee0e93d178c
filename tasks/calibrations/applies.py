"""Kinds of calibration that a detector does not have at all: neither missing nor failed."""

from stem4d.instrument import InstrumentFacts
from stem4d.plan import Plan


def does_not_apply(kind: str, facts: InstrumentFacts, plan: Plan) -> str:
    """Why a kind means nothing for a plan's detector; empty where it does."""
    if kind == "dark_flat" and not facts.integrates(plan.detector.name):
        return "does not apply to a counting detector"
    return ""
