"""The rest of a target that a person stopped is exposed on the same field, which its last survey finds again."""

from pathlib import Path

import numpy as np
import pytest

from db.engine import reader
from db.questions.show import show_run
from flows.night import run_night
from flows.queue import Queued
from flows.resume import left_of
from stem4d.night import Night
from stem4d.plan import Plan
from storage.documents import validate
from tests.flows.approach_flow import PLACE_UM, STEP_NM, displaced, lab_of, plan_of, thumbnail_of, truly
from tests.flows.going_world import states, stopped_in
from tests.flows.remedy_world import without_pages

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
POSE = {"x_um": PLACE_UM[0], "y_um": PLACE_UM[1]}


def two_passes(thumbnail: Path) -> Plan:
    """As approached by pose and thumbnail, with dose for the surveys of two sessions."""
    plan = plan_of(pose=POSE, thumbnail=str(thumbnail), max_drift_nm_per_min=5.0)
    sample = plan.sample.model_copy(update={"fluence_budget_e_per_a2": 12.0})
    exposure = plan.exposure.model_copy(update={"passes": 2})
    quality = plan.quality.model_copy(update={"stop_early": False, "remedies": ()})
    return plan.model_copy(update={"sample": sample, "exposure": exposure, "quality": quality})


def night_of(plan: Plan) -> tuple[Night, tuple[Queued, ...]]:
    target = {"name": "t0", "plan": "p.yaml"}
    document = {"format_version": 1, "name": "same-field", "instrument": "i.toml", "targets": [target]}
    night = validate(document, Night, "night")
    return night, (Queued(night.targets[0], plan),)


def test_the_rest_is_exposed_where_the_first_pass_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    without_pages(monkeypatch)
    thumbnail = thumbnail_of(tmp_path / "before", "target")
    home = tmp_path / "night"
    # Near enough for half of the survey's field to be in its thumbnail, wherever the stage ends.
    text = displaced().replace("[290.0, 76.0]", "[150.0, 40.0]") + "reproducibility_nm = 60.0\n"
    with lab_of(home, text) as opened:
        night, queued = night_of(two_passes(thumbnail))
        first = stopped_in(opened, night, queued, "pass 1/2", "stop")
        assert states(opened)["t0"] == ("skipped", "stopped by a person, after pass 1 of 2")
        (run,) = first.outcomes[0][1].runs
        before_nm, *_ = truly(home)
        left = left_of(opened, night, queued)
        assert left is not None
        again = run_night(opened, night, queued, with_prefect=False, left=left)
        _, rest = again.outcomes[0][1].runs
        ended = states(opened)["t0"]
        with reader(opened.engine) as session:
            shown = show_run(session, name=rest)
    assert (shown["parent"], shown["area"]["name"]) == (run, "target")
    passes = [one for one in shown["datasets"] if one["purpose"] == "acquisition"]
    assert len(passes) == 1, ended
    after_nm, *_ = truly(home)
    # The stage ends 60 nm elsewhere each time, per axis; the field is found again within half a step.
    assert np.hypot(*(after_nm - before_nm)) < STEP_NM / 2
