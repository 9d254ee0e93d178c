"""The registry itself: complete, documented, its limits in one place, and light to import."""

import importlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from rules_world import ANALYSES, plan

from stem4d.plan import SensitivityClass
from stem4d.rules import LIMITS, RULES
from stem4d.rules.document import markdown
from stem4d.rules.limits import CALIBRATION_NEEDS, CALIBRATIONS_FOR, CLASS_UPPER_E_PER_A2, Limit
from stem4d.rules.registry import Context, Judged, Rule, ask_all, judge, rule
from stem4d.verdict import Verdict

LISTED = {
    "detector", "known_detector", "stage_position", "stage_pose", "stage_tilt", "eucentric_tilt", "stigmator",
    "vacuum_position",
}  # fmt: skip
KINDS = {"virtual", "com", "strain", "orientation", "tcbf", "ptychography"}


def test_every_number_has_a_rule() -> None:
    assert {each.number for each in RULES.values()} == set(range(1, 25))


@pytest.mark.parametrize("rule_", RULES.values(), ids=RULES.keys())
def test_rule_is_documented_and_limited(rule_: Rule) -> None:
    assert rule_.formula
    assert rule_.source
    assert rule_.ask.__doc__
    assert set(rule_.kinds) <= KINDS
    if rule_.id not in LISTED:  # As listed or not: no figure, no unit.
        assert rule_.unit
        assert any(key.split("/")[0] == rule_.id for key in LIMITS)


@pytest.mark.parametrize("key", LIMITS)
def test_limit_belongs_to_a_rule_and_has_a_source(key: str) -> None:
    limit = LIMITS[key]
    assert key.split("/")[0] in RULES
    assert limit.source
    assert limit.wanted == (limit.soft if limit.soft is not None else limit.hard)
    if limit.soft is not None and limit.hard is not None:
        # The soft limit is met first.
        assert limit.soft < limit.hard if limit.sense == "at most" else limit.soft > limit.hard


def test_limit_without_a_figure_is_no_limit() -> None:
    with pytest.raises(ValueError, match="hard or a soft"):
        _ = Limit("at most", "nowhere").wanted


def test_tables_are_complete() -> None:
    assert set(CLASS_UPPER_E_PER_A2) == set(SensitivityClass)
    assert set(CALIBRATIONS_FOR) == KINDS
    assert {kind for kinds in CALIBRATIONS_FOR.values() for kind in kinds} <= set(CALIBRATION_NEEDS)


def test_a_rule_is_registered_once() -> None:
    with pytest.raises(ValueError, match="probe_overlap is registered twice"):
        rule("probe_overlap", number=13, axis="real space and time", formula="x", unit="%", source="x")(
            lambda _ctx, _wanted: iter(())
        )


def test_every_answer_has_its_own_key() -> None:
    for name in (*ANALYSES, "case_a", "case_b"):
        keys = [answer.key for answer in ask_all(Context(plan(name)))]
        assert len(keys) == len(set(keys))


@pytest.mark.parametrize(
    ("sense", "value", "verdict"),
    [
        ("at most", 1.0, Verdict.PASS),
        ("at most", 1.0999, Verdict.PASS),
        ("at most", 1.11, Verdict.WARN),
        ("at most", 2.19, Verdict.WARN),
        ("at most", 2.21, Verdict.FAIL),
        ("at least", 2.0, Verdict.PASS),
        ("at least", 1.81, Verdict.PASS),
        ("at least", 1.79, Verdict.WARN),
        ("at least", 0.91, Verdict.WARN),
        ("at least", 0.89, Verdict.FAIL),
    ],
)
def test_judge_with_a_tolerance_of_ten_percent(sense: str, value: float, verdict: Verdict) -> None:
    soft, hard = (1.0, 2.0) if sense == "at most" else (2.0, 1.0)
    limit = Limit(sense, "test", hard=hard, soft=soft, tolerance=0.1)  # type: ignore[arg-type]
    judged: Judged = judge(limit, "thing", value * 7, of=7.0)
    assert judged.verdict is verdict
    # The limit that was crossed is shown, without its tolerance.
    assert judged.limit == pytest.approx(7 * (hard if verdict is Verdict.FAIL else soft))


def test_importing_the_rules_loads_nothing_heavy() -> None:
    code = (
        "import sys; import stem4d.rules; "
        "print(*{'numpy', 'scipy', 'numba', 'prefect', 'sqlalchemy', 'h5py', 'matplotlib'} & set(sys.modules))"
    )
    run = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=Path(__file__).parents[2]
    )
    assert run.stdout.split() == []


def rows() -> Iterator[tuple[Any, ...]]:
    """The rows of every table of the tests of rules."""
    for path in Path(__file__).parent.glob("test_rules_*.py"):
        for test in vars(importlib.import_module(path.stem)).values():
            for mark in getattr(test, "pytestmark", []):
                if mark.name == "parametrize":
                    yield from (row for row in mark.args[1] if isinstance(row, tuple))


def test_every_rule_is_tried_on_both_sides_of_its_limit() -> None:
    """A rule without a row that it meets and one that it does not fails here: add them to a table."""
    seen: dict[str, set[Verdict]] = {name: set() for name in RULES}
    for row in rows():
        verdicts = {each for each in row if isinstance(each, Verdict)}
        for name in (each for each in row if isinstance(each, str) and each in seen):
            seen[name] |= verdicts
    one_sided = {name for name, verdicts in seen.items() if Verdict.PASS not in verdicts or len(verdicts) < 2}
    assert one_sided == set()


def test_the_rules_page_is_that_of_the_registry() -> None:
    assert (Path(__file__).parents[2] / "docs" / "rules.md").read_text() == markdown(), "run: make docs/rules.md"
