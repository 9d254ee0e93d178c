"""What `suggest` answers: the plan, its margins, the trade-off, and what collides where there is no plan."""

from stem4d.goal import Goal
from stem4d.model import Strict
from stem4d.plan import Plan
from stem4d.rules import PlanCheck


class TradePoint(Strict):
    """The least that one target costs."""

    target: float
    unit: str
    relaxed_by: float
    """Target over the goal's; below 1 is finer."""
    fluence_e_per_a2: float | None
    time_s: float | None
    raw_bytes: int | None
    feasible: bool
    limited_by: str
    """The quantity that stops it, in words; empty where nothing does."""


class Relaxation(Strict):
    """One requirement given up as far as it takes, all others kept."""

    requirement: str
    """Dotted field of the goal."""
    words: str
    asked: float
    needed: float
    unit: str
    factor: float
    """How far it moves, as a factor of at least 1."""
    warns: bool
    """Whether what collided still warns at ``needed``."""
    comfortable: float | None
    """From where on it no longer warns; None where it does as far as was looked."""


class Collision(Strict):
    """Why there is no plan without a hard finding."""

    requirements: tuple[str, ...]
    message: str
    relaxations: tuple[Relaxation, ...]
    """Each frees the plan by itself; the least first."""


class Suggestion(Strict):
    """A plan for a goal, or the nearest miss and what collides."""

    goal: Goal
    feasible: bool
    plan: Plan
    check: PlanCheck
    curve: tuple[TradePoint, ...]
    collision: Collision | None
    notes: tuple[str, ...]
    """Why each setting is what it is, and what takes a person."""
