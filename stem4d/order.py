"""The order of a night's targets: no needless realignment, within priorities and deadlines."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby, permutations
from math import inf

from stem4d.analysis_time import analysis_s
from stem4d.instrument import InstrumentFacts
from stem4d.night import Overheads
from stem4d.plan import Plan
from stem4d.predict import predict

EXACT = 7
"""Up to so many targets every order is weighed; beyond, a good one is looked for."""
MODES_WEIGHED = 6
"""Up to so many settings of one priority every order of them is weighed; beyond, the nearest is next."""
MOST_MOVES = 400
"""Targets that are tried elsewhere because they would be late, in a night of more than ``EXACT``."""
MOST_PLACES = 64
"""Places that each of them is tried at."""

Cost = tuple[tuple[int, ...], int, float, int, tuple[int, ...]]


@dataclass(frozen=True)
class Mode:
    """Settings whose change costs time."""

    beam_energy_kev: float
    convergence_semi_angle_mrad: float
    camera_length_mm: float
    spot: str


@dataclass(frozen=True)
class Visit:
    """One target as the order sees it."""

    name: str
    mode: Mode
    seconds: float
    """Predicted, with what every target takes beside its beam [s]."""
    priority: int = 0
    deadline_s: float = inf
    """When it has to have ended, from now [s]."""


@dataclass(frozen=True)
class Placed:
    """A visit with its time, from now [s]."""

    visit: Visit
    starts_s: float
    """When the change of settings before it begins."""
    ends_s: float
    change_s: float

    @property
    def late(self) -> bool:
        """Whether it misses its deadline."""
        return self.ends_s > self.visit.deadline_s


def mode_of(plan: Plan, facts: InstrumentFacts) -> Mode:
    """The settings of a plan whose change costs time."""
    spot = facts.spot(plan.optics.probe_current_pa)
    return Mode(
        plan.optics.beam_energy_kev,
        plan.optics.convergence_semi_angle_mrad,
        plan.optics.camera_length_mm,
        "" if spot is None else spot.name,
    )


def visit_of(
    name: str, plan: Plan, facts: InstrumentFacts, overheads: Overheads, priority: int = 0, deadline_s: float = inf
) -> Visit:
    """A target by its plan; the time is that of `stem4d.predict`, of long analyses, and ``overheads.target_s``."""
    seconds = predict(plan).total_time_s + analysis_s(plan) + overheads.target_s
    return Visit(name, mode_of(plan, facts), seconds, priority, deadline_s)


def change_s(before: Mode | None, after: Mode, overheads: Overheads) -> float:
    """What a change of settings takes [s]; nothing where it is not known what they were."""
    if before is None:
        return 0.0
    costs = (
        (before.beam_energy_kev == after.beam_energy_kev, overheads.beam_energy_s),
        (before.convergence_semi_angle_mrad == after.convergence_semi_angle_mrad, overheads.convergence_s),
        (before.camera_length_mm == after.camera_length_mm, overheads.camera_length_s),
        (before.spot == after.spot, overheads.spot_s),
    )
    return sum(seconds for same, seconds in costs if not same)


def timed(
    visits: Iterable[Visit], overheads: Overheads, now: Mode | None = None, ratio: float = 1.0
) -> tuple[Placed, ...]:
    """Visits one after the other, with their times; ``ratio`` is measured over predicted."""
    placed, at_s = [], 0.0
    for visit in visits:
        change = ratio * change_s(now, visit.mode, overheads)
        ends_s = at_s + change + ratio * visit.seconds
        placed.append(Placed(visit, at_s, ends_s, change))
        at_s, now = ends_s, visit.mode
    return tuple(placed)


def ordered(
    visits: Sequence[Visit], overheads: Overheads, now: Mode | None = None, ratio: float = 1.0
) -> tuple[Placed, ...]:
    """All visits, in the order that is best by these in turn.

    Fewest deadlines missed, those of the highest priority first; fewest pairs in which the lower priority goes first,
    so that one does only where a deadline is met by that; least time for changes of settings, and then fewest
    of them; as they were written.

    Parameters
    ----------
    visits : sequence of Visit
        As they were written.
    overheads : Overheads
        What changes of settings take.
    now : Mode, optional
        Settings of the column as it stands.
    ratio : float
        Measured over predicted time.

    Returns
    -------
    tuple of Placed
        Each visit once. Up to ``EXACT`` of them no order is better; of more, one that misses no deadline may exist
        where none was found.
    """
    weigh = _weighing(visits, overheads, now, ratio)
    together = _together(visits, overheads, now)
    if len(visits) <= EXACT:
        best = _exact(together, weigh)
    elif not any(one.late for one in timed((visits[i] for i in together), overheads, now, ratio)):
        best = together
    else:
        hasty = sorted(together, key=lambda i: visits[i].deadline_s)
        best = min((_rescued(visits, start, weigh) for start in (together, hasty)), key=weigh)
    return timed((visits[i] for i in best), overheads, now, ratio)


def _weighing(
    visits: Sequence[Visit], overheads: Overheads, now: Mode | None, ratio: float
) -> Callable[[Sequence[int]], Cost]:
    """What an order costs, or the beginning of one; all that it looks up is worked out once."""
    modes = list(dict.fromkeys(one.mode for one in visits))
    kind = [modes.index(one.mode) for one in visits]
    first = [change_s(now, mode, overheads) for mode in modes]
    between = [[change_s(one, other, overheads) for other in modes] for one in modes]
    priorities = sorted({one.priority for one in visits}, reverse=True)
    rank = [priorities.index(one.priority) for one in visits]

    def cost(order: Sequence[int]) -> Cost:
        late, seen = [0] * len(priorities), [0] * len(priorities)
        inversions, changes, switches, at_s, costs = 0, 0.0, 0, 0.0, first
        for index in order:
            change, mine = costs[kind[index]], rank[index]
            at_s += ratio * change + ratio * visits[index].seconds
            changes += change
            switches += change > 0
            late[mine] += at_s > visits[index].deadline_s
            inversions += sum(seen[mine + 1 :])
            seen[mine] += 1
            costs = between[kind[index]]
        # Sums in another order differ by their rounding, which is no reason to prefer one.
        return tuple(late), inversions, round(changes, 6), switches, tuple(order)

    return cost


def _exact(start: list[int], weigh: Callable[[Sequence[int]], Cost]) -> Sequence[int]:
    """The best of all orders: a cost only grows with the order, so one that is worse already is left."""
    best: Sequence[int] = start
    best_cost = weigh(start)

    def go_on(order: tuple[int, ...]) -> None:
        nonlocal best, best_cost
        cost = weigh(order)
        # Written orders are compared only where both are whole.
        if cost[:4] > best_cost[:4]:
            return
        if len(order) == len(start):
            if cost < best_cost:
                best, best_cost = order, cost
            return
        for index in range(len(start)):
            if index not in order:
                go_on((*order, index))

    go_on(())
    return best


def _together(visits: Sequence[Visit], overheads: Overheads, now: Mode | None) -> list[int]:
    """Priority by priority, what has the same settings in a row, the earliest deadline first."""
    by_priority = sorted(range(len(visits)), key=lambda i: -visits[i].priority)
    order: list[int] = []
    for _priority, block in groupby(by_priority, key=lambda i: visits[i].priority):
        of_mode: dict[Mode, list[int]] = {}
        for index in block:
            of_mode.setdefault(visits[index].mode, []).append(index)
        for mode in _tour(list(of_mode), overheads, now):
            order += sorted(of_mode[mode], key=lambda i: (visits[i].deadline_s, i))
            now = mode
    return order


def _tour(modes: list[Mode], overheads: Overheads, now: Mode | None) -> Sequence[Mode]:
    """Settings in the order whose changes take least, from those that stand; among equals as they were written."""

    def length(tour: Sequence[Mode]) -> float:
        before = (now, *tour[:-1])
        return sum(change_s(one, other, overheads) for one, other in zip(before, tour, strict=True))

    if len(modes) <= MODES_WEIGHED:
        return min(permutations(modes), key=length)
    left, tour = list(modes), []
    while left:
        here = now
        now = min(left, key=lambda mode: change_s(here, mode, overheads))
        left.remove(now)
        tour.append(now)
    return tour


def _rescued(visits: Sequence[Visit], order: list[int], weigh: Callable[[Sequence[int]], Cost]) -> list[int]:
    """Late visits moved forward one by one, where the whole gets better by that."""
    best_cost = weigh(order)
    for index in sorted(order, key=lambda i: (-visits[i].priority, visits[i].deadline_s))[:MOST_MOVES]:
        if not any(best_cost[0]):
            break
        at = order.index(index)
        rest = [one for one in order if one != index]
        step = max(1, at // MOST_PLACES)
        for place in range(at - 1, -1, -step):
            moved = [*rest[:place], index, *rest[place:]]
            moved_cost = weigh(moved)
            if moved_cost < best_cost:
                order, best_cost = moved, moved_cost
    return order
