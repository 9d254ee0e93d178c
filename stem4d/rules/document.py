"""The registry of rules as a page to read: what each rule holds against what, with formula, limits and sources."""

from collections.abc import Iterator

from stem4d.rules import limits
from stem4d.rules.limits import (
    CALIBRATION_NEEDS,
    CALIBRATIONS_FOR,
    CLASS_UPPER_E_PER_A2,
    LIMITS,
    NEED_IN_WORDS,
    Assumed,
    Limit,
    calibrations_for,
)
from stem4d.rules.registry import AXES, RULES, Rule
from stem4d.rules.words import number

ANALYSES = {
    "virtual": "virtual bright and dark field",
    "com": "centre of mass, DPC",
    "strain": "strain mapping",
    "orientation": "orientation mapping",
    "tcbf": "tilt-corrected bright field",
    "ptychography": "ptychography",
}
_HEAD = """<!-- Generated from the registry of rules: run `make docs/rules.md` after a change. -->
# The rules a plan is checked against

`nightbeam plan check` asks every rule that applies. A **hard** limit fails the plan (exit code 2), a **soft** one
warns (3). What was not given (an instrument, calibrations, imaging figures) is "not checked", never a pass. α is
the convergence semi-angle, Δf the defocus, λ the wavelength, δ the angle per pixel, N the pixels across, c the
offset of the pattern, θmax the largest angle recorded on all sides, D the probe's diameter, s the step, d a full
period, I the current. Angular limits carry 2 %, since angles are not known better before calibration. "habit" is
common practice and not measured, "lit." is from the literature and not checked. Limits are data in
`stem4d/rules/limits.py`: change them there, or hand `check` others.

"DECTRIS, what constitutes a good 4D STEM dataset" is the article that this project grew from. Its survey of methods
is Ophus, Microsc. Microanal. 25 (2019) 563; its cases are "Interstitial oxygen order and its competition with
superconductivity in La2PrNi2O7", Nature Materials 24 (2025), and "Low-dose cryo-electron ptychography of proteins at
sub-nanometer resolution", Nature Communications 15 (2024). It gives the rule; figures that it does not state are habit.
"""


def markdown() -> str:
    """The page, as committed in docs/rules.md."""
    return "\n".join([_HEAD, *_rules(), *_analyses(), *_assumptions()]) + "\n"


def _rules() -> Iterator[str]:
    for axis in AXES:
        yield f"## {axis[0].upper()}{axis[1:]}\n"
        for rule in sorted((each for each in RULES.values() if each.axis == axis), key=lambda each: each.number):
            yield from _rule(rule)


def _rule(rule: Rule) -> Iterator[str]:
    said = (rule.ask.__doc__ or "").strip()
    yield f"### {rule.number} {rule.id.replace('_', ' ')}\n"
    yield f"{said} Held: `{rule.formula}`{f' [{rule.unit}]' if rule.unit else ''}. Source: {rule.source}."
    kinds = ", ".join(ANALYSES[kind] for kind in rule.kinds) if rule.kinds else "the plan as a whole"
    needs = f" Needs: {rule.needs.replace('_', ' ')}." if rule.needs else ""
    yield f"For: {kinds}.{needs}\n"
    rows = [(key, limit) for key, limit in LIMITS.items() if key.split("/")[0] == rule.id]
    if rows:
        yield "| for | hard | soft | why |\n|---|---|---|---|"
        for key, limit in rows:
            yield f"| {_variant(key)} | {_figure(limit, limit.hard)} | {_figure(limit, limit.soft)} | {limit.source} |"
        yield ""


def _variant(key: str) -> str:
    variant = key.partition("/")[2]
    return ANALYSES.get(variant, variant) if variant else "all"


def _figure(limit: Limit, figure: float | None) -> str:
    if figure is None:
        return "–"
    of = "" if not limit.of else f" x {limit.of}" if figure != 1 else limit.of
    amount = "" if limit.of and figure == 1 else number(figure)
    return f"{limit.sense} {amount}{of}"


def _analyses() -> Iterator[str]:
    yield "## Calibrations that each analysis needs\n"
    yield "| analysis | calibrations, and what making one takes |\n|---|---|"
    rows = [(ANALYSES[kind], needed) for kind, needed in CALIBRATIONS_FOR.items()]
    rows.append((f"{ANALYSES['strain']}, absolute", calibrations_for("strain", "absolute")))
    for name, needed in rows:
        said = ", ".join(f"{each} ({NEED_IN_WORDS[CALIBRATION_NEEDS[each]]})" for each in needed)
        yield f"| {name} | {said} |"
    yield ""


def _assumptions() -> Iterator[str]:
    yield "## What is assumed\n"
    yield "| assumption | value | source |\n|---|---|---|"
    for name, value in vars(limits).items():
        if isinstance(value, Assumed):
            yield f"| {name.lower().replace('_', ' ')} | {number(value.value)} | {value.source} |"
    for kind, upper in CLASS_UPPER_E_PER_A2.items():
        name = f"upper figure of {kind.value.replace('_', ' ')}"
        yield f"| {name} | {number(upper.value)} e/Å² | {upper.source} |"
