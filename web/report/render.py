"""Renders a report's values to one HTML page that needs nothing else: no script, no font, no other file."""

from base64 import b64encode
from functools import cache
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from web.report import judged, morning, tables, used
from web.report.attempts import attempts
from web.report.evidence import without_picture
from web.report.parts import calibration_part
from web.report.text import duration, time_utc
from web.report.values import CalibrationReport, NightReport, Picture, RunReport


def render_run(report: RunReport) -> str:
    """The page of one run."""
    return _environment().get_template("run.html").render(run_values(report))


def run_values(report: RunReport) -> dict[str, Any]:
    """What the page of a run shows, by the names of its template."""
    headline, unknown = judged.headline(report.quality)
    return {
        "report": report,
        "state": tables.chip(report.state),
        "verdict": tables.chip(report.verdict),
        "identity": tables.identity(report),
        "analyses": tables.analyses(report.analyses),
        "headline": headline,
        "unknown": unknown,
        "quality": judged.judged("Quality of the data", report.quality),
        "without_picture": without_picture(report.quality),
        "findings": judged.judged("Plan check", report.findings),
        "remedies": tables.remedies(report.remedies),
        "attempts": attempts(report.attempts),
        "calibrations": used.calibrations(report.calibrations),
        "withdrawn": used.withdrawn(report.withdrawn),
        "lacking": used.lacking_words(report.lacking),
        "meaning": tables.STATES.get(report.state, ""),
        "dose": tables.dose(report.doses, "this run"),
        "exposures": tables.exposures(report.exposures),
        "costs": tables.costs(report.predicted, report.actual),
        "files": tables.files(report.files),
        "story": tables.story(report.story),
        "parameters": tables.parameters(report.parameters),
    }


def render_night(report: NightReport) -> str:
    """The page of one night."""
    counts: dict[str, int] = {}
    for target in report.targets:
        counts[target.state] = counts.get(target.state, 0) + 1
    template = _environment().get_template("night.html")
    return template.render(
        report=report,
        state=tables.chip(report.state),
        counts=[(tables.chip(name), number) for name, number in counts.items()],
        needs=morning.needs(report),
        got=morning.got(report),
        not_got=morning.not_got(report),
        times=morning.times(report.targets),
        costs=tables.night_costs(report.predicted, report.actual),
        dose=tables.dose(report.doses, "this night"),
        story=tables.story(report.story),
    )


def render_calibrations(report: CalibrationReport) -> str:
    """The page of the calibrations that a run measured."""
    template = _environment().get_template("calibrations.html")
    parts = [calibration_part(one) for one in report.shown]
    return template.render(
        report=report,
        state=tables.chip(report.state),
        meaning=tables.STATES.get(report.state, ""),
        headline=[(part.title, part.chip) for part in parts],
        anchors=[(part.anchor, part.title) for part in parts],
        parts=parts,
    )


def _data_address(picture: Picture) -> Markup:
    # Base64 and our own media types: nothing in it can leave the attribute.
    return Markup(f"data:{picture.media_type};base64,{b64encode(picture.data).decode()}")  # noqa: S704


FILTERS: dict[str, Any] = {
    "data_address": _data_address,
    "time_utc": time_utc,
    "duration": duration,
    "chip": tables.chip,
}
"""Of the templates of every page of ours."""


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("web.report", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(FILTERS)
    return environment
