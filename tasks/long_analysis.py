"""What keeps a long analysis at the end of a run within what its plan allows, and tells how far it is."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import monotonic

from stem4d.analyse.method import NotPossible
from stem4d.analyse.progress import heard_by
from stem4d.analysis_time import reconstruction_s
from stem4d.errors import NightbeamError
from stem4d.plan import Analysis, Plan, Ptychography
from tasks.lab import Lab

TOLD_EVERY_S = 20.0
BY_COMMAND = "The frames are recorded: nightbeam analyse RUN --method ptychography"


class OutOfTime(NightbeamError):
    """An analysis was ended before it had a result; the data can be analysed at any time."""


def require_time(plan: Plan, wanted: Analysis) -> None:
    """Raise NotPossible where an analysis is not to be made at the end of a run, or would take longer than allowed."""
    if not isinstance(wanted, Ptychography) or wanted.model != "single_slice":
        return
    if wanted.reconstruct == "by_command":
        raise NotPossible(f"The plan leaves the reconstruction to a command. {BY_COMMAND}")
    seconds = reconstruction_s(wanted, plan.scan.frames, min(plan.detector.shape) ** 2)
    if seconds > 60 * wanted.max_reconstruction_min:
        raise NotPossible(
            f"The reconstruction would take some {seconds / 60:.0f} min, and the plan allows "
            f"{wanted.max_reconstruction_min:g} (max_reconstruction_min). {BY_COMMAND}"
        )


@contextmanager
def followed(opened: Lab, run: str, wanted: Analysis, clock: Callable[[], float] = monotonic) -> Iterator[None]:
    """Show how far an analysis is, and end it where a person asks for that or its time is over.

    Raises
    ------
    OutOfTime
        It was ended; a part of a result is none, for it would depend on how busy the machine was.
    """
    begun = told = clock()
    limit_s = 60 * wanted.max_reconstruction_min if isinstance(wanted, Ptychography) else float("inf")

    def hear(step: str, done: int, total: int) -> None:
        nonlocal told
        words = f"{step}, {done} of {total}"
        if asked := opened.break_off():
            raise OutOfTime(f"Ended at {words}: {asked}. {BY_COMMAND}")
        if clock() - begun > limit_s:
            raise OutOfTime(f"Ended at {words}: {limit_s / 60:g} min are over (max_reconstruction_min). {BY_COMMAND}")
        if clock() - told >= TOLD_EVERY_S:
            told = clock()
            opened.show("analysing", f"{wanted.kind}: {words}", run)

    with heard_by(hear):
        yield
