"""What the measured current alone fails warns, unless it would do harm."""

from typing import Any

import pytest

from stem4d.verdict import Finding, Verdict
from tasks.validate import with_doubt_of_current


def finding(rule: str, verdict: Verdict) -> Finding:
    known: dict[str, Any] = {"axis": "intensity and dose", "analysis": None, "quantity": rule, "unit": "", "remedy": ""}
    return Finding(rule=rule, verdict=verdict, value=3.0, limit=1.0, margin=None, message=f"{rule}.", **known)


@pytest.mark.parametrize(
    ("rule", "commanded", "verdict"),
    [
        ("counter_full_scale", Verdict.PASS, Verdict.WARN),
        ("counter_full_scale", Verdict.FAIL, Verdict.FAIL),
        ("fluence_budget", Verdict.PASS, Verdict.FAIL),
        ("damage_rate", Verdict.PASS, Verdict.FAIL),
    ],
)
def test_a_plan_is_refused_by_the_measured_current_where_it_does_harm(
    rule: str, commanded: Verdict, verdict: Verdict
) -> None:
    (one,) = with_doubt_of_current((finding(rule, Verdict.FAIL),), (finding(rule, commanded),))
    assert one.verdict is verdict
    assert ("as commanded" in one.message) == (verdict is Verdict.WARN)
