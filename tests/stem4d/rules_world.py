"""Plans of this repository with single values changed, an instrument that fits them, and one rule's finding."""

import json
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from stem4d.detector import DetectorFacts
from stem4d.instrument import Aperture, InstrumentFacts
from stem4d.model import Range
from stem4d.plan import Plan
from stem4d.rules import Calibrated, check
from stem4d.verdict import Finding, Verdict

PLANS = Path(__file__).parents[2] / "plans"
PASS, WARN, FAIL, UNKNOWN = Verdict.PASS, Verdict.WARN, Verdict.FAIL, Verdict.NOT_MEASURABLE
ANALYSES = ("virtual_bf_df", "com_dpc", "strain", "orientation", "tcbf", "ptychography")


@cache
def _text(name: str) -> str:
    return json.dumps(yaml.safe_load((PLANS / f"{name}.yaml").read_text()))


def document(name: str, changes: dict[str, Any] | None = None) -> dict[str, Any]:
    """A plan file as plain data, with values changed by dotted path (``analyses.0.target_d_a``)."""
    plain: dict[str, Any] = json.loads(_text(name))
    for path, value in (changes or {}).items():
        *folders, last = path.split(".")
        part: Any = plain
        for folder in folders:
            part = part[int(folder)] if isinstance(part, list) else part[folder]
        if isinstance(part, list):
            part[int(last)] = value
        else:
            part[last] = value
    return plain


def plan(name: str, changes: dict[str, Any] | None = None) -> Plan:
    """A shipped plan, with values changed."""
    return Plan.model_validate_json(json.dumps(document(name, changes)))


def findings(checked: Plan, rule: str, **given: Any) -> list[Finding]:
    """All findings of one rule."""
    return [each for each in check(checked, **given).findings if each.rule == rule]


Table = list[tuple[str, str, str, list[tuple[Any, Verdict]]]]
"""Plan, rule, path of the value to change, and verdicts by value."""


Rows = list[tuple[str, str, dict[str, Any], dict[str, Any], Verdict]]
"""Plan, rule, values changed by path, what is given to the check, and the verdict."""


def flat(table: Table) -> list[tuple[str, str, str, Any, Verdict]]:
    """One row for each value."""
    return [(name, rule, path, value, verdict) for name, rule, path, cases in table for value, verdict in cases]


def found(checked: Plan, rule: str, **given: Any) -> Finding:
    """The only finding of one rule."""
    (only,) = findings(checked, rule, **given)
    return only


def instrument(**changes: Any) -> InstrumentFacts:
    """An instrument on which every shipped plan can run; keys of the detector start with ``detector_``."""
    detector = {
        "name": "arina",
        "shape": (192, 192),
        "pixel_pitch_um": 100.0,
        "bit_depths": (1, 6, 12, 16),
        "max_frame_rate_hz": 30100.0,
        "max_count_rate_per_px_hz": 1e8,
        "damage_count_rate_per_px_hz": 1e9,
        "dead_time_us": 0.1,
        "verified": True,
    }
    facts: dict[str, Any] = {
        "beam_energies_kev": (80.0, 200.0, 300.0),
        "apertures": tuple(
            Aperture(name=f"c2-{alpha:g}", convergence_semi_angle_mrad=alpha)
            for alpha in (1.0, 2.0, 4.0, 20.0, 21.4, 25.0, 27.6)
        ),
        "camera_lengths_mm": (111.0, 124.0, 188.6, 250.0, 300.0, 400.0, 1250.0, 1477.0),
        "defocus_nm": Range(lowest=-4000.0, highest=4000.0),
        "probe_current_pa": Range(lowest=0.1, highest=1000.0),
        "dwell_time_us": Range(lowest=10.0, highest=1e5),
        "max_field_nm": 5000.0,
        "expected_drift_nm_per_min": 0.0,
    }
    for key, value in changes.items():
        if key.startswith("detector_"):
            detector[key.removeprefix("detector_")] = value
        else:
            facts[key] = value
    return InstrumentFacts(**facts, detectors=(DetectorFacts(**detector),))


def calibrations(**known: tuple[float, float]) -> dict[str, Calibrated]:
    """Calibrations as (value, uncertainty)."""
    return {kind: Calibrated(value=value, uncertainty=uncertainty) for kind, (value, uncertainty) in known.items()}
