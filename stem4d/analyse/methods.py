"""Which analyses there are, by name: those that look at the frames, and those that need only an acquisition's maps."""

from collections.abc import Callable
from typing import Any

from stem4d.analyse.method import Given, Method, Outcome
from stem4d.maps import RunMaps
from stem4d.model import Strict
from stem4d.plan import Analysis

_ALL: tuple[Method, ...] = ()
METHODS = {one.name: one for one in _ALL}

from_maps: dict[str, Callable[[Given, RunMaps, Any], Outcome]] = {}
"""By the kind of a plan's analysis."""


def options_for(wanted: Analysis) -> Strict:
    """The options of a method that a plan's words come to: both have the same names for the same things."""
    options = METHODS[wanted.kind].options
    said = {name: value for name, value in wanted.model_dump().items() if name in options.model_fields}
    return options.model_validate({name: value for name, value in said.items() if value is not None})
