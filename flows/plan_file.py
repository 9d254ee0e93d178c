"""A plan before it is run by itself: held against its instrument and what is recorded of its areas."""

from functools import partial
from pathlib import Path

from flows.before import registered_budget
from flows.possible import refuse_impossible
from flows.queue import other_budgets
from stem4d.instrument import InstrumentFile
from stem4d.plan import Plan
from storage.documents import load_model
from storage.settings import Settings


def check_plan(settings: Settings, plan: Plan, name: str, instrument: Path) -> InstrumentFile:
    """Refuse what cannot be run; gives what the instrument's file says. ``name`` is for the message.

    Raises
    ------
    BadInput
        For settings that the instrument has not, or a budget that differs from the one an area is known with.
    """
    facts = load_model(instrument, InstrumentFile)
    refuse_impossible(name, plan, facts.facts)
    for problem in other_budgets(plan, partial(registered_budget, settings)):
        raise problem
    return facts
