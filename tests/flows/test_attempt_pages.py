"""Each attempt's page is written when it ends, and those of all again when the last one has."""

from types import SimpleNamespace
from typing import Any

import pytest

from flows import run as flow
from flows.run import Attempt, Outcome, run_target
from stem4d.errors import DeviceFault, LimitViolation, NightbeamError


def written(
    monkeypatch: pytest.MonkeyPatch, ends: list[Attempt | NightbeamError], asked: str = ""
) -> tuple[list[str], Outcome]:
    """Runs whose pages a target writes, in order, when its attempts end so, and how it ends."""
    pages: list[str] = []
    ending = iter(ends)

    def attempt(*_: Any) -> Attempt:
        end = next(ending)
        if isinstance(end, NightbeamError):
            raise end
        return end

    def call(stage: Any, _instrument: str, *rest: Any) -> Any:
        if stage is flow.open_run:
            return f"r{len(rest[2]) + 1}"
        if stage is flow.report_run:
            pages.append(rest[0])
        return None

    monkeypatch.setattr(flow, "_attempt", attempt)
    quiet = SimpleNamespace(on_stage=lambda _name: None, between=lambda: asked, approval=None)
    monkeypatch.setattr(flow, "lab", lambda _: quiet)
    return pages, run_target(call, "demo", "{}", None)


AGAIN = Attempt("marked", "saturated", None, "a shorter dwell", "{}")


def test_all_pages_have_the_whole_story(monkeypatch: pytest.MonkeyPatch) -> None:
    assert written(monkeypatch, [AGAIN, AGAIN, Attempt("done", "")])[0] == ["r1", "r2", "r3", "r2", "r1"]


def test_one_attempt_has_one_page(monkeypatch: pytest.MonkeyPatch) -> None:
    assert written(monkeypatch, [Attempt("done", "")])[0] == ["r1"]


def test_a_target_that_fails_tells_it_on_all_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    assert written(monkeypatch, [AGAIN, NightbeamError("the column does not answer")])[0] == ["r1", "r2", "r1"]


def test_no_attempt_begins_after_a_stop_and_its_data_are_marked(monkeypatch: pytest.MonkeyPatch) -> None:
    pages, outcome = written(monkeypatch, [AGAIN], asked="stopped by a person")
    assert pages == ["r1"]
    assert (outcome.state, outcome.reason) == ("marked", "saturated (a shorter dwell not tried: stopped by a person)")
    assert not outcome.broken_off


@pytest.mark.parametrize(
    ("error", "fault"),
    [
        (DeviceFault("no frames"), True),
        (LimitViolation(device="column", setting="defocus_nm", asked=9e9, limit="5000"), False),
    ],
)
def test_a_fault_of_the_machines_is_told_from_what_they_cannot_do(
    error: NightbeamError, fault: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    _pages, outcome = written(monkeypatch, [error])
    assert (outcome.state, outcome.fault) == ("failed", fault)
