"""Giving up: on this target, or on the night."""

from collections.abc import Sequence

from stem4d.quality.remedies.remedy import NoRemedy, Remedy, Situation
from stem4d.verdict import QualityResult

OF_THE_INSTRUMENT = ("dose.electrons", "beam.", "frames.")
"""Metrics whose failure the next target would meet as well."""


def skip(_now: Situation, causes: Sequence[QualityResult]) -> Remedy | NoRemedy:
    """Leave this target as it is and go on with the next."""
    return Remedy(
        action="skip",
        cause=causes[0].metric,
        reason="nothing that the plan allows mends it",
        cost="this target: its data stay and are not analysed",
    )


def end_night(_now: Situation, causes: Sequence[QualityResult]) -> Remedy | NoRemedy:
    """End the night, where the fault is the instrument's and not this specimen's."""
    if not causes[0].metric.startswith(OF_THE_INSTRUMENT):
        return NoRemedy(f"{causes[0].metric} is no fault of the instrument: the next target may go well")
    return Remedy(
        action="end_night",
        cause=causes[0].metric,
        reason="the next targets would meet the same fault",
        cost="the targets that have not begun",
    )
