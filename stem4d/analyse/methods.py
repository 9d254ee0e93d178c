"""Which analyses there are, by name: those that look at the frames, and those that need only a pass's maps."""

from collections.abc import Callable
from typing import Any

from pydantic import ValidationError

from stem4d import optics
from stem4d.analyse.com.method import COM
from stem4d.analyse.com.outcome import com_outcome
from stem4d.analyse.method import Given, Method, Outcome
from stem4d.analyse.orientation.method import ORIENTATION
from stem4d.analyse.ptychography.method import PTYCHOGRAPHY
from stem4d.analyse.seen import disk_doubt, with_doubts
from stem4d.analyse.strain.method import STRAIN
from stem4d.analyse.tcbf.method import TCBF
from stem4d.analyse.virtual.masks import Ring
from stem4d.analyse.virtual.method import VIRTUAL
from stem4d.analyse.virtual.outcome import virtual_outcome
from stem4d.errors import BadInput
from stem4d.maps import RunMaps
from stem4d.model import Strict
from stem4d.plan import Analysis, CentreOfMass, Virtual
from stem4d.quality.regions import COM_REGION_RADII
from stem4d.virtual_detectors import Annulus

METHODS = {one.name: one for one in (COM, VIRTUAL, STRAIN, ORIENTATION, TCBF, PTYCHOGRAPHY)}


def options_for(wanted: Analysis) -> Strict:
    """The options of a method that a plan's words come to: both have the same names for the same things.

    Raises
    ------
    BadInput
        The plan lacks what the method cannot do without.
    """
    method: Method = METHODS[wanted.kind]
    said = {name: value for name, value in wanted.model_dump().items() if name in method.options.model_fields}
    said = {name: value for name, value in said.items() if value is not None}
    for name, known in method.options.model_fields.items():
        if known.is_required() and name not in said:
            remedy = f"Write it into the plan, or analyse with --set {name}=..."
            raise BadInput(field=name, value="nothing", limit=f"{wanted.kind} cannot do without it", remedy=remedy)
    try:
        return method.options.model_validate(said)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(map(str, first["loc"])) or wanted.kind
        raise BadInput(field=field, value=said, limit=first["msg"].removeprefix("Value error, ")) from None


def _virtual(given: Given, maps: RunMaps, wanted: Virtual) -> dict[str, Outcome]:
    rings = [Ring(name=one.name, inner_mrad=one.inner_mrad, outer_mrad=one.outer_mrad) for one in wanted.detectors]
    outcomes = {f"virtual {one.name}": virtual_outcome(given, maps, (one.name,), {one.name: one}) for one in rings}
    return _seen(given, maps, outcomes)


def _com(given: Given, maps: RunMaps, _wanted: CentreOfMass) -> dict[str, Outcome]:
    # The region that `tasks.calibrated.accumulator_spec` has the centre of mass taken over.
    y, x = (float(each) for each in given.origin_px.reshape(2, -1).mean(axis=1))
    radius = COM_REGION_RADII * optics.disk_radius_px(given.convergence_semi_angle_mrad, given.mrad_per_pixel)
    region = Annulus(name="com", centre_px=(y, x), inner_px=0.0, outer_px=radius)
    return _seen(given, maps, {"com": com_outcome(given, maps, com_region=region)})


def _seen(given: Given, maps: RunMaps, outcomes: dict[str, Outcome]) -> dict[str, Outcome]:
    """Hot pixels and the like are judged with the data, of which these are the maps."""
    doubt = disk_doubt(given, maps.sum_pattern)
    return {name: with_doubts(one, [doubt] if doubt else []) for name, one in outcomes.items()}


FROM_MAPS: dict[str, Callable[[Given, RunMaps, Any], dict[str, Outcome]]] = {"virtual": _virtual, "com": _com}
"""By the kind of a plan's analysis; gives an outcome for each name under which it is judged."""
