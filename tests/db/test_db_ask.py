"""What is asked across runs: differences, lineage, filters, words, doses, costs, the end of a night, software."""

import re
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from db_world import World
from mended_world import FIRST, SECOND
from sqlalchemy.orm import Session

from db import record
from db.calibrations import add_calibration, use_calibration
from db.engine import reader, writer
from db.questions import fulltext, run_filters, runs
from db.questions.affected import affected_by
from db.questions.cost import cost_of_night, cost_of_run
from db.questions.diff import diff_runs
from db.questions.lineage import lineage, lineage_of_calibration
from db.questions.lists import calibration_history, instruments, list_nights, list_samples
from db.questions.run_filters import reading_filter
from db.questions.runs import list_runs
from db.questions.sample_dose import sample_dose
from db.questions.search import search
from db.questions.software import software_changes
from db.questions.stopped import why_stopped
from db.results import add_dataset
from stem4d.errors import BadInput


def names(session: Session, **asked: Any) -> list[str]:
    return [one.name for one in list_runs(session, **asked).runs]


def test_what_differs_between_two_attempts(mended: World) -> None:
    with reader(mended.engine) as session:
        told = diff_runs(session, a=FIRST, b=SECOND)
        assert diff_runs(session, a=SECOND, b=SECOND) == {
            "a": SECOND, "b": SECOND, "run": [], "settings": [], "calibrations": [], "software": [], "plan": [],
            "quality": [],
        }  # fmt: skip
    by_name = {part: {one["name"]: one for one in told[part]} for part in told if part not in ("a", "b")}
    assert by_name["run"]["attempt"] == {"name": "attempt", "a": 1, "b": 2, "unit": ""}
    fluence = by_name["run"]["actual_fluence_e_per_a2"]
    assert (fluence["a"], fluence["b"], fluence["unit"]) == (2.0, 41.0, "e/Å²")
    # The first has neither settings nor calibrations, and its plan is the second's.
    assert told["plan"] == []
    assert all(one["a"] is None and one["b"] is not None for one in told["settings"] + told["calibrations"])
    assert {one["name"] for one in told["software"]} == {"python", "code_revision"}
    assert [(one["name"], one["verdict_a"], one["verdict_b"]) for one in told["quality"]] == [("frames", None, "pass")]


def test_fields_of_plans_differ_by_their_path(world: World) -> None:
    text = '{"defocus_nm":-12.5,"passes":[{"dwell_time_us":10.0}]}'
    with writer(world.engine) as session:
        plan = record.register_plan(session, name="other", canonical_json=text)
        record.start_run(session, name=SECOND, plan_id=plan, area_id=world.area, instrument="simulator")
    with reader(world.engine) as session:
        told = diff_runs(session, a=FIRST, b=SECOND)["plan"]
    assert told == [{"name": "passes[0].dwell_time_us", "a": None, "b": 10.0, "unit": "µs"}]


def test_lineage_goes_up_to_the_plan_and_down_to_the_data(mended: World) -> None:
    with reader(mended.engine) as session:
        told = lineage(session, run=SECOND)
        first = lineage(session, run=FIRST)
    roles = {(one["from"].partition(":")[0], one["to"].partition(":")[0], one["role"]) for one in told["edges"]}
    assert told["root"] == f"run:{SECOND}"
    assert {("plan", "run", "plan"), ("sample", "run", "specimen"), ("run", "run", "attempt before")} <= roles
    assert ("run", "dataset", "recorded in") in roles
    kinds = [one["kind"] for one in told["nodes"]]
    assert kinds.count("dataset") == 1
    assert not told["truncated"]
    # Of the first attempt came the second, with what came of that.
    assert f"run:{SECOND}" in {one["key"] for one in first["nodes"]}
    assert "dataset" in {one["kind"] for one in first["nodes"]}


def test_lineage_of_a_calibration_has_the_runs_that_used_it(mended: World) -> None:
    with reader(mended.engine) as session:
        number = diff_runs(session, a=FIRST, b=SECOND)["calibrations"][0]["b"]["id"]
        told = lineage_of_calibration(session, calibration_id=number)
        short = lineage_of_calibration(session, calibration_id=number, limit=1)
    assert f"run:{SECOND}" in {one["key"] for one in told["nodes"]}
    assert [one["key"] for one in short["nodes"]] == [f"calibration:{number}"]
    assert short["truncated"]


@pytest.mark.parametrize("limit", [0, 1001])
def test_a_lineage_has_a_size(mended: World, limit: int) -> None:
    with reader(mended.engine) as session, pytest.raises(BadInput, match="1 to 1000"):
        lineage(session, run=FIRST, limit=limit)


@pytest.mark.parametrize("few", [0, 5000])
def test_runs_by_what_was_read_analysed_and_given(mended: World, monkeypatch: pytest.MonkeyPatch, few: int) -> None:
    # One way for filters that few runs pass, another where most do: both give the same.
    monkeypatch.setattr(run_filters, "FEW", few)
    monkeypatch.setattr(runs, "FEW", max(few, 1))
    with reader(mended.engine) as session:
        name, value = next(
            (one["name"], one["b"])
            for one in diff_runs(session, a=FIRST, b=SECOND)["settings"]
            if isinstance(one["b"], float)
        )
        for asked, found in {
            f"{name}>={value}": [SECOND],
            f"{name} < {value}": [],
            f"{name}!={value + 1}": [SECOND],
        }.items():
            assert names(session, readings=[reading_filter(asked)]) == found
        assert names(session, analysis="com") == [SECOND]
        assert names(session, analysis="com:good") == [SECOND]
        assert names(session, analysis="com:doubtful") == []
        assert names(session, dose_below_e_per_a2=10.0) == [FIRST]
        assert names(session, dose_above_e_per_a2=10.0) == [SECOND]
        assert names(session, dose_above_e_per_a2=1.0, dose_below_e_per_a2=100.0) == [SECOND, FIRST]
        assert names(session, instrument="simulator") == [SECOND, FIRST]
        with pytest.raises(BadInput, match="closest are simulator"):
            names(session, instrument="other")
        with pytest.raises(BadInput, match="closest are com"):
            names(session, analysis="cm:good")
        assert names(session, stale=True) == []
        assert names(session, text="satur") == [FIRST]
        assert names(session, text="204139 R20261122", state="mended") == [SECOND]
        started = list_runs(session, verdict="pass").runs[0].started
        assert names(session, until=started) == [FIRST]
        assert names(session, since=started, until=started + timedelta(seconds=1)) == [SECOND]


def test_words_are_found_page_by_page_beyond_what_is_looked_at_in_one_go(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runs, "FEW", 3)
    with writer(world.engine) as session:
        for number in range(10):
            run = record.start_run(
                session,
                name=f"r20261123-000000-{number:04d}",
                plan_id=world.plan,
                area_id=world.area,
                instrument="simulator",
            )
            state = "failed" if number % 2 else "stopped"
            record.finish_run(session, run_id=run, state=state, exit_reason="the beam was lost")
    with reader(world.engine) as session:
        first = list_runs(session, text="beam lost", state="failed", limit=3)
        second = list_runs(session, text="beam lost", state="failed", limit=3, before=first.next_before)
    assert [one.name[-1] for one in (*first.runs, *second.runs)] == ["9", "7", "5", "3", "1"]
    assert second.next_before is None


@pytest.mark.parametrize("common", [0, 1000])
@pytest.mark.parametrize("asked", ["BEAM lost", "lost-beam", "größe 50 % be", "3e-4", "beam"])
def test_words_are_found_alike_where_few_rows_have_them_and_where_many_do(
    world: World, monkeypatch: pytest.MonkeyPatch, common: int, asked: str
) -> None:
    """Capitals, signs between words, letters beyond ASCII and a beginning; what has only the letters is not found."""
    monkeypatch.setattr(fulltext, "COMMON", common)
    reasons = ["Beam-Lost (größe: 50 %, 3e-4)", "moonbeam losten größer 150 % 13e-41"]
    with writer(world.engine) as session:
        for number, reason in enumerate(reasons):
            run = record.start_run(
                session, name=f"w{number}", plan_id=world.plan, area_id=world.area, instrument="simulator"
            )
            record.finish_run(session, run_id=run, state="failed", exit_reason=reason)
    with reader(world.engine) as session:
        assert [one["name"] for one in search(session, text=asked)["runs"]] == ["w0"]


@pytest.mark.parametrize("few", [0, 4, 1000])
def test_pages_by_time_and_words_are_whole_whatever_the_clock_did(
    world: World, monkeypatch: pytest.MonkeyPatch, few: int
) -> None:
    """Where few match and where many do, the same runs come in the order of their registration."""
    monkeypatch.setattr(run_filters, "FEW", few)
    monkeypatch.setattr(fulltext, "COMMON", few)
    # Minutes after noon: set back twice, and once a year ahead.
    minutes = [0, 1, 2, 525_600, 3, 4, -60, -59, 5, 6, 7, 2, 8]
    noon = datetime(2026, 11, 24, 12, tzinfo=UTC)
    with writer(world.engine) as session:
        for number, minute in enumerate(minutes):
            at = noon + timedelta(minutes=minute)
            record.start_run(
                session, name=f"r20261124-clock-{number:04d}", plan_id=world.plan, area_id=world.area,
                instrument="simulator", clock=lambda at=at: at,
            )  # fmt: skip
    for first, last in ((2, None), (None, 4), (1, 6), (-60, -58), (9, 10)):
        bounds = {
            name: None if minute is None else noon + timedelta(minutes=minute)
            for name, minute in (("since", first), ("until", last))
        }
        wanted = [
            f"r20261124-clock-{number:04d}"
            for number, minute in reversed(list(enumerate(minutes)))
            if (first is None or minute >= first) and (last is None or minute < last)
        ]
        found, before = [], None
        with reader(world.engine) as session:
            while True:
                page = list_runs(session, text="clock", limit=2, before=before, **bounds)
                assert page == list_runs(
                    session, sample="gold-on-carbon", text="clock", limit=2, before=before, **bounds
                )
                found += [one.name for one in page.runs]
                before = page.next_before
                if before is None:
                    break
            plain = [one.name for one in list_runs(session, **bounds).runs if "clock" in one.name]
        assert found == plain == wanted


@pytest.mark.parametrize(
    "asked",
    ["defocus_nm", ">=3", "defocus_nm>=", "defocus_nm ~ 3", "a b=3", "defocus_nm>=high", "x>=nan", "a=y" + 100 * " y"],
)
def test_a_filter_that_is_none_is_refused(asked: str) -> None:
    with pytest.raises(BadInput):
        reading_filter(asked)


def test_an_unknown_reading_is_answered_with_the_closest(mended: World) -> None:
    with reader(mended.engine) as session:
        known = diff_runs(session, a=FIRST, b=SECOND)["settings"][0]["name"]
        with pytest.raises(BadInput, match=re.escape(known)):
            list_runs(session, readings=[reading_filter(f"{known[:-1]}>=1")])


def test_calibrations_that_rest_on_one_come_of_it(mended: World) -> None:
    with reader(mended.engine) as session:
        number = diff_runs(session, a=FIRST, b=SECOND)["calibrations"][0]["b"]["id"]
    with writer(mended.engine) as session:
        later = add_calibration(
            session, kind="rotation", mode_key="", instrument="simulator", value={}, unit="deg", verdict="pass",
            measured_at=mended.clock(), rests_on=(number,),
        )  # fmt: skip
    with reader(mended.engine) as session:
        told = lineage_of_calibration(session, calibration_id=number)
    edge = {"from": f"calibration:{number}", "to": f"calibration:{later}", "role": "in force"}
    assert edge in told["edges"]


def test_an_unknown_run_is_answered_with_those_beside_it(mended: World) -> None:
    with reader(mended.engine) as session, pytest.raises(BadInput, match=f"closest to it are {FIRST}, {SECOND}"):
        diff_runs(session, a="r20261122-204139-0003", b=FIRST)


@pytest.mark.parametrize(
    "text", ["'; DROP TABLE run; --", 'a" OR "b', "run:satur", "satur* NOT", "NEAR(a b)", "%s {0} :x", "x\0y"]
)
def test_words_are_only_words(mended: World, text: str) -> None:
    with reader(mended.engine) as session:
        assert search(session, text=text)["runs"] == []
        assert names(session, text=text) == []


@pytest.mark.parametrize("text", ["", "-- '", "a " * 21, "a" * 201])
def test_a_text_without_words_or_with_too_many_is_refused(mended: World, text: str) -> None:
    with reader(mended.engine) as session, pytest.raises(BadInput):
        search(session, text=text)


def test_search_finds_each_kind_by_its_name_and_its_reason(mended: World) -> None:
    with reader(mended.engine) as session:
        assert [one["name"] for one in search(session, text="Satur")["runs"]] == [FIRST]
        assert [one["name"] for one in search(session, text="carbon gold")["samples"]] == ["gold-on-carbon"]
        assert [one["name"] for one in search(session, text="case-a")["plans"]] == ["case-a"]
        assert [one["reason"] for one in search(session, text="re-exposed")["targets"]] == ["re-exposed"]
        assert len(search(session, text="n20261122")["nights"]) == 1
        assert search(session, text="nothing of this")["runs"] == []
        page = search(session, text="r20261122", limit=1)
        rest = search(session, text="r20261122", limit=1, before=page["next_before"])
    assert [one["name"] for one in (*page["runs"], *rest["runs"])] == [SECOND, FIRST]
    assert rest["next_before"] is None
    assert "samples" not in rest


def test_the_dose_of_a_specimen_area_by_area(mended: World) -> None:
    with reader(mended.engine) as session:
        told = sample_dose(session, sample="gold-on-carbon")
        with pytest.raises(BadInput, match="gold-on-carbon"):
            sample_dose(session, sample="gold")
    (area,) = told["areas"]
    assert (area["name"], area["runs"]) == ("a1", 2)
    assert (area["delivered_e_per_a2"], area["reserved_e_per_a2"], area["left_e_per_a2"]) == (43.0, 0.0, 57.0)


def test_predicted_against_actual(mended: World) -> None:
    with reader(mended.engine) as session:
        night = cost_of_night(session)
        run = cost_of_run(session, run=SECOND)
    assert [one["run"] for one in night["runs"]] == [FIRST, SECOND]
    assert (run["predicted"]["seconds"], run["actual"]["seconds"]) == (60.0, 61.0)
    assert night["sums"]["seconds"] == {"predicted": 120.0, "actual": 64.0, "runs": 2}


def test_why_a_night_stopped_and_what_it_did_not_get(world: World) -> None:
    with writer(world.engine) as session:
        record.add_target(session, night_id=world.night, position=1, name="second", plan_id=world.plan)
        record.set_target_state(session, target_id=world.target, state="skipped", reason="no time", broken_off=True)
        record.finish_night(session, night_id=world.night, state="stopped", exit_reason="the vacuum was lost")
    with reader(world.engine) as session:
        told = why_stopped(session)
    assert (told["state"], told["exit_reason"]) == ("stopped", "the vacuum was lost")
    assert told["counts"] == {"skipped": 1, "pending": 1}
    assert [(one["name"], one["reason"], one["broken_off"]) for one in told["not_got"]] == [
        ("first", "no time", True),
        ("second", None, False),
    ]
    assert [one["kind"] for one in told["last_events"]] == ["night_started", "night_ended"]


def test_the_first_run_after_a_change_of_software(mended: World) -> None:
    with writer(mended.engine) as session:
        newer = record.register_environment(session, python="3.11.7", packages={"numpy": "2.1"}, code_revision="abc")
        record.start_run(
            session,
            name="r20261123-000000-0001",
            plan_id=mended.plan,
            area_id=mended.area,
            instrument="simulator",
            environment_id=newer,
        )
    with reader(mended.engine) as session:
        told = software_changes(session)
        page = software_changes(session, limit=1)
    assert [one["first_run"] for one in told["environments"]] == ["r20261123-000000-0001", SECOND]
    assert told["environments"][0]["changed"] == {"numpy": {"from": None, "to": "2.1"}}
    assert page["environments"] == told["environments"][:1]
    assert software_changes_after(mended, page["next_before"]) == told["environments"][1:]


def software_changes_after(world: World, before: int) -> list[dict[str, object]]:
    with reader(world.engine) as session:
        return list(software_changes(session, before=before)["environments"])


def test_nights_and_specimens_are_listed_page_by_page(mended: World) -> None:
    with writer(mended.engine) as session:
        record.start_night(session, name="n20261123-000000-0001", canonical_json="{}")
        record.register_sample(session, name="second")
    with reader(mended.engine) as session:
        first = list_nights(session, limit=1)
        rest = list_nights(session, limit=1, before=first["next_before"])
        samples = list_samples(session)
    assert [(one["name"], one["targets"]) for one in (*first["nights"], *rest["nights"])] == [
        ("n20261123-000000-0001", {}),
        ("n20261122-204139-0001", {"mended": 1}),
    ]
    assert rest["next_before"] is None
    assert [(one["name"], one["areas"]) for one in samples["samples"]] == [("second", 0), ("gold-on-carbon", 1)]


def test_calibrations_of_a_kind_over_time(mended: World) -> None:
    with reader(mended.engine) as session:
        known = instruments(session)
        (kind, *_rest) = known["simulator"]
        told = calibration_history(session, instrument="simulator", kind=kind)
    assert list(known) == ["simulator"]
    assert told["next_before"] is None
    assert [one["withdrawn"] for one in told["calibrations"]] == [None]


def test_the_data_of_a_calibration_come_page_by_page(mended: World) -> None:
    with reader(mended.engine) as session:
        number = diff_runs(session, a=FIRST, b=SECOND)["calibrations"][0]["b"]["id"]
        run = mended.run
    with writer(mended.engine) as session:
        use_calibration(session, run_id=run, calibration_id=number, role="other")
        for index in range(3):
            add_dataset(
                session,
                run_id=run,
                pass_index=index,
                sha256=f"{index:064d}",
                size_bytes=1,
                scan_shape=(2, 2),
                detector_shape=(8, 8),
                dtype="uint16",
                frames=4,
                complete=True,
            )
    with reader(mended.engine) as session:
        pages = [affected_by(session, calibration_id=number, limit=2)]
        while pages[-1]["next_after"] is not None:
            pages.append(affected_by(session, calibration_id=number, limit=2, after=pages[-1]["next_after"]))
    assert [len(page["datasets"]) for page in pages] == [2, 2]
    assert [one["run"] for page in pages for one in page["datasets"]] == [SECOND, FIRST, FIRST, FIRST]
