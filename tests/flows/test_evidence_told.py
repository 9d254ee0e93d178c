"""The evidence on a run's page is worked out of the same data, by the same clock, as the verdict was."""

from math import hypot
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from db.engine import reader
from db.questions.show import show_run
from flows.run import run_plan
from stem4d.quality.evidence.values import Curves, Evidence
from tests.flows.night_world import small, small_lab
from web.report import evidence_run
from web.report.values import EvidenceGroup


@pytest.mark.slow
def test_the_course_on_the_page_has_the_rate_that_was_judged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn, caught = evidence_run.drawn_evidence, list[Evidence]()

    def catch(groups: tuple[Evidence, ...], results: Any) -> tuple[EvidenceGroup, ...]:
        caught.extend(groups)
        return drawn(groups, results)

    monkeypatch.setattr(evidence_run, "drawn_evidence", catch)
    with small_lab(tmp_path) as opened:
        outcome = run_plan(opened, small("5_drifting.yaml", 40), with_prefect=False)
        run = outcome.runs[-1]
        with reader(opened.engine) as session:
            facts = show_run(session, name=run)
        page = (opened.settings.reports_folder / f"{run}.html").read_text(encoding="utf-8")
    started = [one["data"]["started_s"] for one in facts["events"] if one["kind"] == "pass recorded"]
    assert len(started) == 2
    # Two passes with a pause of a second between them, by the instrument's clock.
    assert started[1] - started[0] > 1.0
    judged = next(one for one in facts["quality"] if one["metric"] == "drift.rate" and one["stage"] == "final")
    (drift,) = [panel for group in caught if group.group == "Drift" for panel in group.panels]
    assert isinstance(drift, Curves)
    courses = [series for series in drift.series if series.name.startswith("fitted course")]
    rate = hypot(*(float(np.diff(each.y)[0] / np.diff(each.x)[0]) for each in courses))
    # The fit times a feature that moved by lines when its line was scanned, the picture by the start of the pass.
    assert rate == pytest.approx(judged["value"], rel=0.02)
    assert "Place of the specimen in each pass" in page[page.index('<section id="evidence">') :]
