"""The goal: what is to be learnt from which specimen, before any parameter is chosen."""

from typing import Annotated, Literal

from pydantic import Field

from stem4d.model import Name, Strict, Title
from stem4d.plan import Analysis, NanometreLength, Sample


class Goal(Strict):
    """A question, the specimen it is asked of, and what may be spent on the answer."""

    format_version: Literal[1]
    name: Name
    title: Title = ""
    sample: Sample
    analyses: Annotated[tuple[Analysis, ...], Field(min_length=1, max_length=8)]
    """All of them are to be answered by the one plan."""
    field_nm: tuple[NanometreLength, NanometreLength]
    """Field of view that must be covered, (y, x) [nm]."""
    beam_energy_kev: Annotated[float, Field(ge=10, le=1500)] | None = None
    """None: whichever of the instrument's energies answers best."""
    detector: Name | None = None
    """None: whichever of the instrument's detectors answers best."""
    time_available_min: Annotated[float, Field(gt=0, le=1e5)] | None = None
    dose: Literal["as_needed", "spend_budget"] = "as_needed"
    """Whether the fluence is what the noise rules need, with a margin, or all that the budget allows."""
