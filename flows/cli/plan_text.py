"""A plan's figures and findings as text: what cannot work first, then what to mind, then what the plan will give."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from stem4d.rules.words import figures, number

if TYPE_CHECKING:
    from stem4d.plan import Plan
    from stem4d.predict import Prediction
    from stem4d.rules import PlanCheck
    from stem4d.suggest import Suggestion
    from stem4d.verdict import Finding

WIDTH = 46


def check_text(checked: "PlanCheck", plan: "Plan", *, every: bool) -> Iterator[str]:
    """A plan check, line by line; with the rules that are met only where ``every`` is set."""
    groups: list[tuple[str, list[Finding]]] = [
        ("cannot work", [one for one in checked.findings if one.verdict == "fail"]),
        ("mind", [one for one in checked.findings if one.verdict == "warn"]),
        ("not checked", [one for one in checked.findings if one.verdict == "not_measurable"]),
        ("met", [one for one in checked.findings if one.verdict == "pass"] if every else []),
    ]
    for title, findings in groups:
        for one in findings:
            whose = f" ({one.analysis})" if one.analysis else ""
            yield f"{title}: {one.rule.replace('_', ' ')}{whose}"
            yield f"  {one.message}"
            if one.remedy:
                yield f"  {one.remedy}"
            yield ""
    met = sum(one.verdict == "pass" for one in checked.findings)
    unknown = sum(one.verdict == "not_measurable" for one in checked.findings)
    yield (
        f"{plan.name}: {len(checked.hard)} hard finding(s), {len(checked.soft)} soft, {met} rule(s) met"
        + (f", {unknown} thing(s) not checked" if unknown else "")
    )
    yield ""
    yield from prediction_text(checked.prediction)


def prediction_text(p: "Prediction") -> Iterator[str]:
    """What a plan will give, by axis, in words and units."""
    groups: list[tuple[str, list[tuple[str, str]]]] = [
        (
            "reciprocal space",
            [
                ("wavelength", _in("Å", p.wavelength_a)),
                ("angle per pixel", _in("mrad", p.mrad_per_pixel)),
                ("largest angle recorded on all sides", _in("mrad", p.max_angle_mrad)),
                ("half-period that this angle carries", _in("Å", p.half_period_limit_a)),
                ("radius of the bright-field disk", _in("px", p.disk_radius_px)),
            ],
        ),
        (
            "probe",
            [
                ("probe diameter", _in("Å", p.probe_diameter_a)),
                ("diffraction width (FWHM)", _in("Å", p.diffraction_fwhm_a)),
                ("depth of field", _in("nm", p.depth_of_field_a / 10)),
                ("linear overlap of neighbours", _in("%", 100 * p.linear_overlap)),
                ("area overlap of neighbours", _in("%", 100 * p.area_overlap)),
                ("real-space window", f"{_in('Å', p.window_a)}, {number(p.window_over_probe)} probe diameters"),
            ],
        ),
        (
            "dose and counts",
            [
                ("electrons per pattern", number(p.electrons_per_pattern)),
                ("electrons per pixel of the disk", number(p.electrons_per_disk_pixel)),
                ("rate per pixel of the disk", _in("/s", p.rate_per_disk_pixel_hz)),
                ("average fluence of one pass", _in("e/Å²", p.average_fluence_e_per_a2)),
                ("highest fluence of one pass", _in("e/Å²", p.local_fluence_e_per_a2)),
                ("highest fluence of all passes", _in("e/Å²", p.total_fluence_e_per_a2)),
                ("centre-of-mass noise of one pattern", _in("mrad", p.com_noise_mrad)),
                *([("strain noise at one position", number(p.strain_noise))] if p.strain_noise is not None else []),
            ],
        ),
        (
            "time and data",
            [
                ("patterns", f"{p.frames:,}"),
                ("time of a line, of a pass", f"{_in('s', p.line_time_s)}, {_in('s', p.pass_time_s)}"),
                ("time in all", _in("s", p.total_time_s)),
                ("data, uncompressed", _bytes(p.raw_bytes)),
                ("data, compressed (estimate)", _bytes(p.compressed_bytes)),
            ],
        ),
    ]
    for title, lines in groups:
        yield title
        for name, value in lines:
            yield f"  {name:<{WIDTH}} {value}"


def suggestion_text(found: "Suggestion", source: str) -> Iterator[str]:
    """A suggestion, line by line."""
    if found.feasible:
        soft = f", {len(found.check.soft)} soft finding(s)" if found.check.soft else ""
        yield f"{found.goal.name}: there is a plan without a hard finding on {source}{soft}."
    else:
        yield f"{found.goal.name}: no plan on {source} can answer this question."
    if found.collision is not None:
        yield f"  {found.collision.message}"
        for way in found.collision.relaxations:
            yield f"  Enough by itself: {relaxed(way.words, way.asked, way.needed, way.unit)}{_comfort(way)}"
    yield ""
    yield "the plan" if found.feasible else "the nearest miss"
    for note in found.notes:
        yield f"  {note}"
    yield ""
    yield f"{'margins':<28} {'value':>14} {'limit':>22} {'margin':>8}"
    for one in found.check.findings:
        if one.value is None or one.limit is None:
            continue
        value, limit = figures(one.unit, one.value, one.limit)
        margin = "" if one.margin is None else f"{100 * one.margin:.0f} %"
        word = {"fail": "cannot work", "warn": "mind"}.get(one.verdict, "")
        name = one.rule.replace("_", " ")
        yield f"  {name:<26} {value:>14} {one.sense + ' ' + limit:>22} {margin:>8}  {word}".rstrip()
    if found.curve:
        yield ""
        yield "what finer and coarser targets cost"
        for point in found.curve:
            what = f"{number(point.target)} {point.unit}"
            if point.feasible and point.fluence_e_per_a2 is not None and point.time_s is not None:
                cost = (
                    f"{number(point.fluence_e_per_a2)} e/Å², {_in('s', point.time_s)}, {_bytes(point.raw_bytes or 0)}"
                )
            else:
                cost = f"not possible: {point.limited_by}"
            here = "  <- asked" if point.relaxed_by == 1 else ""
            yield f"  {what:<16} {cost}{here}"


def relaxed(words: str, asked: float, needed: float, unit: str) -> str:
    """A requirement given up, in words."""
    return f"{words} {number(needed)} {unit}".rstrip() + f" instead of {number(asked)}"


def _comfort(one: Any) -> str:
    if not one.warns:
        return "."
    if one.comfortable is None:
        return ", with a warning that stays."
    return f", with a warning; none from {number(one.comfortable)} {one.unit}".rstrip() + " on."


def flat(document: Any, path: str = "") -> list[tuple[str, Any]]:
    """A document as dotted paths and values."""
    if isinstance(document, dict):
        return [line for key, value in document.items() for line in flat(value, f"{path}.{key}" if path else key)]
    if isinstance(document, list) and any(isinstance(value, dict) for value in document):
        return [line for index, value in enumerate(document) for line in flat(value, f"{path}.{index}")]
    return [(path, document)]


def _in(unit: str, value: float) -> str:
    return figures(unit, value)[0]


def _bytes(count: float) -> str:
    for unit, size in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6)):
        if count >= size:
            return f"{number(count / size)} {unit}"
    return f"{number(count / 1e3)} kB"
