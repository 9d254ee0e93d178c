"""Lists the plan's settings and what follows from them, in the order and sections of the plan."""

from collections.abc import Iterator, Mapping
from typing import Any

from stem4d.plan import Plan
from stem4d.predict import predict
from web.report.tables import label_and_unit
from web.report.values import Parameter

_SECTIONS = ("sample", "optics", "scan", "exposure", "detector", "quality")


def plan_parameters(plan: Plan) -> tuple[Parameter, ...]:
    """Settings of a plan, and its predicted figures."""
    return tuple(_settings(plan.model_dump(mode="json"))) + tuple(_predicted(plan))


def _settings(document: Mapping[str, Any]) -> Iterator[Parameter]:
    for analysis in document["analyses"]:
        section = f"analysis: {analysis['kind']}"
        stated = [one for one in _section(section, analysis) if one.name not in ("kind", "detectors")]
        rings = [Parameter(section, ring["name"], _ring(ring)) for ring in analysis.get("detectors", ())]
        yield from rings + stated or [Parameter(section, "settings", "none")]
    for name in _SECTIONS:
        yield from _section(name, document[name])


def _section(section: str, settings: Mapping[str, Any]) -> Iterator[Parameter]:
    for name, value in settings.items():
        if value is None or value == "":
            continue
        label, unit = label_and_unit(name)
        if name == "shape":
            value = " × ".join(str(size) for size in value) + " (y × x)"
        yield Parameter(section, label, value, unit)


def _ring(ring: Mapping[str, Any]) -> str:
    return f"{ring['inner_mrad']:g} to {ring['outer_mrad']:g}\u00a0mrad"


def _predicted(plan: Plan) -> Iterator[Parameter]:
    figures = predict(plan).model_dump()
    for name in (
        "wavelength_a",
        "mrad_per_pixel",
        "max_angle_mrad",
        "disk_radius_px",
        "probe_diameter_a",
        "linear_overlap",
        "electrons_per_pattern",
        "electrons_per_disk_pixel",
        "total_fluence_e_per_a2",
        "frames",
    ):
        label, unit = label_and_unit(name)
        yield Parameter("predicted", label, figures[name], unit)
