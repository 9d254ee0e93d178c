"""The morning report: what needs a person stands first, and each target once, where it is looked for."""

from dataclasses import replace
from datetime import UTC, datetime

from web.report.morning import MOST_EVENTS, got, needs, not_got, times
from web.report.render import render_night
from web.report.values import Cost, NightReport, RunLink, StoryLine, TargetLine

WHEN = datetime(2026, 11, 28, 5, 0, tzinfo=UTC)


def line(number: int, state: str, reason: str = "", **more: object) -> TargetLine:
    one = TargetLine(number, f"t{number}", "p", state, None, reason or None, (), Cost(), Cost(), ())
    return replace(one, **more)  # type: ignore[arg-type]


QUIET = NightReport(
    "n1", "Flakes", "stem", "done", None, WHEN, WHEN, "0" * 64, (line(0, "done"),), (), (), Cost(), Cost()
)


def night(*lines: TargetLine, **more: object) -> NightReport:
    return replace(QUIET, targets=lines, **more)  # type: ignore[arg-type]


def test_a_quiet_night_needs_nobody() -> None:
    assert needs(QUIET) == ()
    expected = night(line(0, "refused", "by its rule", expected="refused"), line(1, "skipped", "no time"))
    assert needs(expected) == ()
    assert "<p>Nothing.</p>" in render_night(QUIET)


def test_a_target_that_was_given_up_needs_a_look_but_none_that_nobody_wanted() -> None:
    run = (RunLink("r1", "marked", None, None),)
    report = night(
        line(0, "skipped", "the stage has not settled", runs=run),
        line(1, "refused", "not exposed without rotation"),
        line(2, "skipped", "skipped by a person", runs=run),
        line(3, "skipped", "a spare that was not needed"),
    )
    assert needs(report) == (
        "t0 was skipped: the stage has not settled",
        "t1 was refused: not exposed without rotation",
    )


def test_whole_rows_of_a_target_that_was_given_up_are_data() -> None:
    report = night(line(0, "skipped", "given up", has_data=True), line(1, "skipped", "given up"))
    assert [row[0].text for row in got(report).rows] == ["1. t0"]
    assert [row[0].text for row in not_got(report).rows] == ["2. t1"]


def test_what_presses_most_stands_first() -> None:
    report = night(
        line(0, "failed", "the valve is shut"),
        line(1, "marked", "it drifts"),
        line(2, "skipped", "stopped by a person", waits=True),
        line(3, "done", expected="refused"),
        state="stopped",
        exit_reason="stopped by a person",
        story=(StoryLine(WHEN, "safety", "the beam was left on", ""), StoryLine(WHEN, "order", "stop", "")),
    )
    assert needs(report) == (
        "safety: the beam was left on",
        "The night was broken off (stopped): stopped by a person",
        "t2 can still be had: the same command goes on with the night",
        "t0 failed: the valve is shut",
        "t1 is marked, look before its data are used: it drifts",
        "t3 ended as done, and was expected to end as refused",
    )


def test_many_events_of_a_kind_do_not_hide_the_rest() -> None:
    report = night(line(0, "failed", "x"), story=(StoryLine(WHEN, "safety", "again", ""),) * (MOST_EVENTS + 3))
    said = needs(report)
    assert said[MOST_EVENTS] == "3 more such events stand in the story"
    assert said[-1] == "t0 failed: x"


def test_each_target_stands_once_where_it_is_looked_for() -> None:
    states = ("done", "mended", "marked", "refused", "skipped", "failed", "pending", "running")
    report = night(*(line(number, state) for number, state in enumerate(states)))
    assert [row[0].text for row in got(report).rows] == ["1. t0", "2. t1", "3. t2"]
    assert [row[0].text for row in not_got(report).rows] == [f"{number + 1}. t{number}" for number in range(3, 8)]


def test_times_are_those_of_targets_that_were_timed() -> None:
    lines = (
        line(0, "done", night_predicted_s=100.0, night_took_s=150.0),
        line(1, "done", night_predicted_s=100.0, night_took_s=50.0),
        line(2, "skipped"),
    )
    rows = [[cell.text for cell in row] for row in times(lines).rows]
    assert [(row[0], row[3]) for row in rows] == [("t0", "1.5"), ("t1", "0.5"), ("All of these", "1")]


def test_the_page_reads_in_that_order() -> None:
    page = render_night(night(line(0, "done"), line(1, "failed", "<b>x</b>")))
    places = [page.index(f'<section id="{name}"') for name in ("needs", "got", "not", "dose", "cost", "story")]
    assert places == sorted(places)
    assert "t1 failed: &lt;b&gt;x&lt;/b&gt;" in page
