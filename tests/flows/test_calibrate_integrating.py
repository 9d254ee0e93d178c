"""An integrating detector end to end on the simulator: dark level and gain come first, or nothing passes."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from db.engine import reader
from db.questions.calibrations import measured_in
from db.questions.show import show_run
from flows.calibrate import calibrate_kinds
from stem4d.dose import electrons
from stem4d.errors import BadInput
from stem4d.plan import Plan
from storage.settings import Settings
from tasks.calibrations import counting, dark
from tasks.calibrations.bench import Bench
from tasks.calibrations.kinds import in_order
from tasks.calibrations.standing import standings, usable
from tasks.lab import Lab, open_lab
from tests.flows.night_world import INSTRUMENT, small

GAIN = 8.0
"""Counts per electron; a current that took counts for electrons would be eight times the true one."""
DARK_COUNTS = 40.0
TRUTH = f"""
[settings.detector]
kind = "integrating"
counts_per_electron = {GAIN}
dark_counts = {DARK_COUNTS}
dark_spread_counts = 4.0
read_noise_counts = 2.0
"""


@pytest.fixture(scope="module")
def plan() -> Plan:
    """At 5 pA the plan's 50 µs are 1.6e3 electrons: calibrations dwell longer."""
    return small("1_overview.yaml", 24, "optics.probe_current_pa=5")


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    home = tmp_path_factory.mktemp("integrating")
    stated = INSTRUMENT.read_text().replace(
        'source = "simulated: as its settings say"', 'noise_e_per_px = 0.25\nsource = "simulated"', 1
    )
    path = home / "integrating.toml"
    path.write_text(stated + TRUTH)
    with open_lab(Settings(home=home, worker="inline", prefect=False, disk_reserve_gb=0), path) as lab:
        yield lab


@pytest.fixture(scope="module")
def exposures_us() -> dict[str, float]:
    """By the name of a scan: what its frames were exposed for; filled as calibrations scan."""
    return {}


@pytest.fixture(scope="module")
def run(opened: Lab, plan: Plan, exposures_us: dict[str, float]) -> str:
    """The name of the run that measured the current, and all that it needs."""
    scan = Bench._pass

    def noted(self: Bench, name: str, *rest: Any) -> Any:
        one = scan(self, name, *rest)
        exposures_us[name] = one.plan.exposure.live_time_us
        return one

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(Bench, "_pass", noted)
        result = calibrate_kinds(opened, plan, ("current",))
    assert result.complete, [one.measured.reason for one in result.recorded]
    return result.run


def found(opened: Lab, run: str) -> dict[str, Any]:
    with reader(opened.engine) as session:
        return {one["kind"]: one for one in measured_in(session, run=run)}


def test_dark_level_and_gain_come_before_everything_else() -> None:
    assert in_order(["current"], [], integrating=True) == ("dark_flat", "gain", "vacuum")
    assert in_order(["centre"], ["dark_flat"], integrating=True) == ("gain", "vacuum")
    assert in_order(["current"], []) == ("vacuum",)


def test_the_current_of_an_integrating_detector_is_that_of_electrons(opened: Lab, run: str) -> None:
    measured = found(opened, run)
    assert list(measured)[:2] == ["dark_flat", "counts_per_electron"]
    # The gain is known to about 1 %.
    assert measured["counts_per_electron"]["value"]["counts_per_electron"] == pytest.approx(GAIN, rel=0.02)
    assert measured["current"]["value"]["true_over_commanded"] == pytest.approx(1.0, abs=0.03)


def test_the_dark_level_is_taken_at_the_exposure_of_the_scans_it_is_taken_off_from(
    opened: Lab, plan: Plan, run: str, exposures_us: dict[str, float]
) -> None:
    assert set(exposures_us) == {"dark", "flat", "gain", "vacuum-before", "vacuum-after"}
    (exposed_us,) = set(exposures_us.values())
    assert exposed_us == pytest.approx(3e4 / electrons(5, 1.0))
    assert f"exposure_time_us={exposed_us:.6g}" in found(opened, run)["dark_flat"]["mode_key"]
    # A plan with another exposure, whose calibrations would be exposed alike, finds it.
    shorter = small("1_overview.yaml", 24, "optics.probe_current_pa=5", "exposure.dwell_time_us=40")
    assert standings(opened, shorter, ("dark_flat",))["dark_flat"].state == "valid"


def test_the_ledger_books_electrons_and_no_counts(opened: Lab, plan: Plan, run: str) -> None:
    with reader(opened.engine) as session:
        lit = show_run(session, name=run)["exposures"]
    assert len(lit) == 4
    for one in lit:
        # 256 frames each; the dark level alone would be 20 times as many, and the counts 8 times.
        assert one["electrons"] == pytest.approx(256 * 3e4, rel=0.05)
        assert one["delivered_e_per_a2"] == pytest.approx(one["intended_e_per_a2"], rel=0.05)


def test_pixels_that_dark_frames_show_are_in_the_mask(opened: Lab, plan: Plan, run: str) -> None:
    """The fixed hot and dead pixels stand still: they have no noise."""
    known = usable(opened, standings(opened, plan))
    here = Bench(opened, run, plan, {"dark_flat": known["dark_flat"]})
    assert here.dark is not None
    assert here.dark.bad.any()
    np.testing.assert_array_equal(here.bad_pixels, here.dark.bad)
    with_all = Bench(opened, run, plan, known)
    assert with_all.geometry.bad_pixel_mask(plan.detector.shape)[here.dark.bad].all()


def test_without_a_gain_no_count_is_taken_for_an_electron(opened: Lab, plan: Plan, run: str) -> None:
    known = usable(opened, standings(opened, plan))
    here = Bench(opened, run, plan, {kind: one for kind, one in known.items() if kind != "counts_per_electron"})
    with pytest.raises(BadInput, match=r"counts_per_electron.*must be measured first"):
        _ = here.counts_per_electron


@pytest.mark.parametrize(
    ("group", "lacks", "changes"),
    [
        # One dark frame is too few, and four frames of 1.6e3 electrons hardly light a pixel.
        (dark, "dark_flat", {"GRID": 1}),
        (counting, "counts_per_electron", {"GRID": 2, "VACUUM_ELECTRONS": 0.0}),
    ],
)
def test_where_dark_or_gain_fails_nothing_passes(
    opened: Lab,
    plan: Plan,
    run: str,
    group: Any,
    lacks: str,
    changes: dict[str, float],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, value in changes.items():
        monkeypatch.setattr(group, name, value)
    failed = calibrate_kinds(opened, plan, (lacks, "centre", "current"))
    measured = found(opened, failed.run)
    assert not failed.complete
    assert measured[lacks]["verdict"] == "fail"
    for kind in ("pixel_mask", "centre", "descan", "current"):
        assert measured[kind]["verdict"] == "not_measurable"
        assert lacks in measured[kind]["reason"]
