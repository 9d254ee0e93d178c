"""The story of a target's attempts: seen, tried, cost, what came of it; on the page and on the screen."""

from typing import Any

from web.report.attempts import attempts, attempts_lines

FAILED = {
    "metric": "saturation.disk", "analysis": "com", "value": 0.25, "limit_value": 1e-4, "unit": "",
    "message": "clipped", "stage": "final", "uncertainty": None,
}  # fmt: skip
TRIED = {
    "cause_metric": "saturation.disk", "action": "reduce_current", "from_value": {"optics.probe_current_pa": 90.0},
    "to_value": {"optics.probe_current_pa": 30.0}, "cost": "fewer electrons", "outcome": "tried in the next attempt",
}  # fmt: skip


def attempt(number: int, **more: Any) -> dict[str, Any]:
    told = {
        "run": f"r{number}", "attempt": number, "area": "grain-2", "state": "done", "verdict": "pass",
        "exit_reason": None, "seen": [], "tried": [], "fluence_e_per_a2": 1000.0, "seconds": 12.0,
    }  # fmt: skip
    return told | more


def test_an_attempt_says_what_was_seen_and_tried_and_what_it_cost() -> None:
    first = attempt(1, state="stopped", verdict="fail", seen=[FAILED, FAILED], tried=[TRIED])
    said = "\n".join(attempts_lines([first, attempt(2, exit_reason="with a warning for com")])).replace("\u00a0", " ")
    assert said.count("saturation disk 0.25 (limit 10⁻⁴)") == 1
    assert (
        "tried next: reduce current, optics: probe current 90 pA to optics: probe current 30 pA, for saturation" in said
    )
    assert "attempt 2    r2 on grain-2: done, pass\n             seen: nothing failed" in said
    assert "in all       2,000 e⁻/Å² in 2 attempts".replace(",", "\u202f") in said


def test_an_attempt_without_data_says_how_it_ended_and_an_open_exposure_has_no_sum() -> None:
    waiting = attempt(
        2, state="marked", verdict=None, exit_reason="the specimen does not settle", fluence_e_per_a2=None, seconds=None
    )
    said = "\n".join(attempts_lines([attempt(1), waiting]))
    assert "seen: the specimen does not settle" in said
    assert "cost: not measured, not measured" in said
    assert "in all" not in said


def test_the_table_of_the_page_has_a_row_for_each_attempt() -> None:
    table = attempts([attempt(1, tried=[TRIED]), attempt(2)])
    assert [row[0].text for row in table.rows] == ["1. r1, grain-2", "2. r2, grain-2"]
    assert len(table.headers) == len(table.rows[0])
