"""The night file: what it may say of priorities, deadlines and spares, and files of before read as before."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from stem4d.errors import BadInput
from stem4d.night import Night, Overheads
from storage.documents import load_model, validate

PLANS = Path(__file__).parents[2] / "plans"
STARTED = datetime(2026, 11, 27, 20, 0, tzinfo=UTC)


def night(*targets: dict[str, Any], **more: Any) -> Night:
    listed = [{"plan": "p.yaml", "name": f"t{i}", **one} for i, one in enumerate(targets)]
    return validate({"format_version": 1, "name": "n", "instrument": "i.toml", "targets": listed, **more}, Night, "n")


def test_a_night_of_before_reads_as_before() -> None:
    old = load_model(PLANS / "demo_night.yaml", Night)
    assert {(one.priority, one.deadline, one.spare_areas, one.spare_targets) for one in old.targets} == {
        (0, None, (), ())
    }
    assert old.overheads == Overheads()
    assert old.held_back == frozenset()


def test_a_deadline_is_a_time_with_its_zone_or_hours_after_the_start() -> None:
    read = night({"deadline": "2026-11-28T05:30Z"}, {"deadline": "2026-11-28T06:30+01:00"}, {"deadline_h": 9.5}, {})
    dues = [one.due(STARTED) for one in read.targets]
    assert dues == [datetime(2026, 11, 28, 5, 30, tzinfo=UTC)] * 3 + [None]


@pytest.mark.parametrize(
    ("targets", "words"),
    [
        ([{"deadline": "2026-11-28T05:30"}], "deadline"),  # of which zone?
        ([{"deadline": "2026-11-28T05:30Z", "deadline_h": 3.0}], "say the same"),
        ([{"deadline_h": -1.0}], "deadline_h"),
        ([{"priority": 101}], "priority"),
        ([{"priority": 1.5}], "priority"),
        ([{}, {"spare_targets": ["t7"]}], r"targets\[1\].spare_targets: got 't7'; is no target of this night. Name"),
        ([{"spare_targets": ["t0"]}], r"targets\[0\].spare_targets: got 't0'; has to stand after the target"),
        ([{}, {"spare_targets": ["t0"]}], r"targets\[1\].spare_targets: got 't0'; has to stand after the target"),
        ([{"deadline": "05:30"}], r"deadline: got '05:30'; has to be .* Write it as 2026-03-02T05:30:00\+01:00"),
        ([{"deadline": 5.5}], r"has to be a date with time and zone. Write it as 2026-03-02T05:30:00\+01:00"),
        ([{"deadline": "2026-11-28"}], r"has to be a date with time and zone. Write it as 2026-03-02T05:30:00\+01:00"),
        ([{"spare_areas": ["../x"]}], "spare_areas"),
        ([{"name": "a"}, {"name": "a"}], "targets: got 'a'; names of targets must differ"),
    ],
)
def test_what_makes_no_sense_is_refused(targets: list[dict[str, Any]], words: str) -> None:
    with pytest.raises(BadInput, match=words):
        night(*targets)


def test_spares_are_held_back() -> None:
    assert night({"spare_targets": ["t1", "t2"]}, {"spare_targets": ["t2"]}, {}, {}).held_back == {"t1", "t2"}
