"""The ledger against what the simulated specimen has really received: to a hundredth where the current is known."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from stem4d.dose import electrons as electrons_of
from stem4d.errors import DeviceFault
from stem4d.plan import Plan
from tests.flows.dose_world import BACK, defocused, film, truth
from tests.flows.exposure_world import begin, booked, expose_all, whole_run

WITHIN = 0.01
"""What the night promises. The count of the electrons adds its own noise, 0.05 % of a pass here."""
A_FRAME = electrons_of(30.0, 50.0)
"""Electrons of a position: 30 pA for 50 µs."""
ROUNDING = 1e-5
"""The truth is kept in single precision."""


def ledger(entries: list[dict[str, Any]]) -> tuple[float, float]:
    """Fluence where it is highest [e/Å²] and electrons, as booked."""
    return sum(one["delivered_e_per_a2"] for one in entries), sum(one["electrons"] for one in entries)


def run_on_film(home: Path, plan: Plan, *truths: str, current_ratio: float = 1.0) -> tuple[float, float, float, float]:
    """Fluence and electrons, each as booked and as the specimen received them."""
    with film(home, *truths) as opened:
        fluence, electrons = ledger(booked(opened, whole_run(opened, plan, current_ratio)))
    real = truth(home)
    return fluence, real.highest(), electrons, real.electrons


def agrees(charged: float, real: float, within: float = WITHIN) -> bool:
    return real * (1 - ROUNDING) <= charged <= real * (1 + within)


FEW_ROWS = 0.05
"""Where no more than two or three rows in a row were lit, which the probe is wider than, no place has all that the plan
says: the tails of the rows beside them are missing. The ledger does not count on that."""


def test_passes_and_unblanked_flyback_are_charged_as_the_specimen_has_them(tmp_path: Path) -> None:
    plan = defocused("exposure.passes=3", f"scan.flyback_us={BACK}", "scan.flyback_blanked=false")
    fluence, highest, electrons, real = run_on_film(tmp_path, plan)
    assert highest > 0
    assert agrees(fluence, highest), (fluence, highest)
    assert agrees(electrons, real), (electrons, real)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("changes", "current_ratio"),
    [
        ((), 1.0),
        ((f"scan.flyback_us={BACK}", "scan.flyback_blanked=true"), 1.0),
        # The column's table is wrong from 60 pA on: three times as much flows, which a calibration has measured.
        (("optics.probe_current_pa=70",), 3.0),
    ],
    ids=["one pass", "blanked flyback", "a current that was measured"],
)
def test_a_run_is_charged_as_the_specimen_has_it(
    tmp_path: Path, changes: tuple[str, ...], current_ratio: float
) -> None:
    fluence, highest, electrons, real = run_on_film(tmp_path, defocused(*changes), current_ratio=current_ratio)
    assert agrees(fluence, highest), (fluence, highest)
    assert agrees(electrons, real), (electrons, real)


@pytest.mark.slow
def test_a_current_that_nobody_knew_of_is_charged_by_what_was_counted(tmp_path: Path) -> None:
    """The detector has edges, and what scatters beyond them is not counted: more than a hundredth may be missing."""
    fluence, highest, _electrons, _real = run_on_film(tmp_path, defocused("optics.probe_current_pa=70"))
    assert fluence == pytest.approx(highest, rel=0.03)


@pytest.mark.slow
@pytest.mark.parametrize(("seconds", "within"), [(0.002, WITHIN), (0.02, FEW_ROWS)])
def test_with_a_beam_that_drops_out_what_had_all_of_it_is_charged(
    tmp_path: Path, seconds: float, within: float
) -> None:
    lost = f"[settings.beam]\ndropouts = [{{ at_s = 0.005, seconds = {seconds} }}]"
    fluence, highest, electrons, real = run_on_film(tmp_path, defocused(), lost)
    assert agrees(fluence, highest, within), (fluence, highest)
    # How much of the current was missing nobody knows for sure: what was planned is charged.
    assert electrons >= real * (1 - ROUNDING)


def stops_at(frames: int) -> Callable[..., Callable[..., str | None]]:
    return lambda *_plan: lambda _sum, _max, done: "enough" if done >= frames else None


@pytest.mark.slow
@pytest.mark.parametrize(("frames", "within"), [(1, FEW_ROWS), (100, WITHIN), (300, WITHIN)])
def test_a_pass_that_is_broken_off_is_charged_as_the_specimen_has_it(
    tmp_path: Path, frames: int, within: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fluence in full, since the first rows have it; electrons by how long the beam was on."""
    monkeypatch.setattr("tasks.passes.watch", stops_at(frames))
    with film(tmp_path) as opened:
        run = begin(opened, defocused())
        assert expose_all(opened, run)["stopped"] == "enough"
        fluence, electrons = ledger(booked(opened, run))
    real = truth(tmp_path)
    assert agrees(fluence, real.highest(), within), (fluence, real.highest())
    # The position that was begun is charged whole, and of few frames one is more than a hundredth.
    assert real.electrons * (1 - ROUNDING) <= electrons <= real.electrons * (1 + WITHIN) + A_FRAME
    # Of 576 frames.
    assert real.electrons < 0.9 * 576 * A_FRAME


def breaks_at(frames: int) -> Callable[..., Callable[..., str | None]]:
    def watch(_sum: object, _max: object, done: int) -> str | None:
        if done >= frames:
            raise DeviceFault("the detector is gone")
        return None

    return lambda *_plan: watch


@pytest.mark.slow
def test_a_pass_that_an_error_ended_is_charged_as_the_specimen_has_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tasks.passes.watch", breaks_at(300))
    with film(tmp_path) as opened:
        run = begin(opened, defocused())
        with pytest.raises(DeviceFault, match="gone"):
            expose_all(opened, run)
        (entry,) = booked(opened, run)
    real = truth(tmp_path)
    assert agrees(entry["delivered_e_per_a2"], real.highest()), (entry, real.highest())
    assert real.electrons * (1 - ROUNDING) <= entry["electrons"] <= real.electrons * (1 + WITHIN) + A_FRAME
    assert real.electrons < 0.9 * 576 * A_FRAME
