"""Each attempt's page is written when it ends, and those of all again when the last one has."""

from types import SimpleNamespace
from typing import Any

import pytest

from flows import run as flow
from flows.run import Attempt, run_target
from stem4d.errors import NightbeamError


def written(monkeypatch: pytest.MonkeyPatch, ends: list[Attempt | NightbeamError]) -> list[str]:
    """Runs whose pages a target writes, in order, when its attempts end so."""
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
    quiet = SimpleNamespace(on_stage=lambda _name: None, between=lambda: "")
    monkeypatch.setattr(flow, "lab", lambda _: quiet)
    run_target(call, "demo", "{}", None)
    return pages


AGAIN = Attempt("marked", "saturated", None, "a shorter dwell", "{}")


def test_all_pages_have_the_whole_story(monkeypatch: pytest.MonkeyPatch) -> None:
    assert written(monkeypatch, [AGAIN, AGAIN, Attempt("done", "")]) == ["r1", "r2", "r3", "r2", "r1"]


def test_one_attempt_has_one_page(monkeypatch: pytest.MonkeyPatch) -> None:
    assert written(monkeypatch, [Attempt("done", "")]) == ["r1"]


def test_a_target_that_fails_tells_it_on_all_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    assert written(monkeypatch, [AGAIN, NightbeamError("the column does not answer")]) == ["r1", "r2", "r1"]
