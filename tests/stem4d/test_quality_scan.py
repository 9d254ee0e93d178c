"""The scan engine from its images: jitter, hum, lag and distortion against truth, silence where nothing shows."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from quality_world import one
from scan_world import Engine, crystal, film, lattice, maps_of_scene, passes

from stem4d.maps import RunMaps
from stem4d.quality.distortion import check_distortion
from stem4d.quality.flyback import check_flyback
from stem4d.quality.line_shifts import line_shifts
from stem4d.quality.scan_noise import check_scan_noise
from stem4d.verdict import QualityResult, Verdict

PASS, WARN, UNKNOWN = Verdict.PASS, Verdict.WARN, Verdict.NOT_MEASURABLE
METRICS = ("scan.jitter", "scan.hum", "scan.flyback", "scan.distortion")
LINE_S = 0.01
Results = tuple[QualityResult, ...]


def _judged(made: list[RunMaps]) -> Results:
    shifts, reason = line_shifts(made)
    noise = check_scan_noise(shifts, reason, LINE_S)
    return (*noise, *check_flyback(shifts, reason), *check_distortion(shifts, reason))


def _on_lattice(seed: int, engine: Engine, counts: float = 1000.0) -> Results:
    rng = np.random.default_rng(seed)
    return _judged(passes(lattice(rng), rng, engine, number=1, counts=counts))


def _on_film(seed: int, engine: Engine, counts: float = 1000.0) -> Results:
    rng = np.random.default_rng(seed)
    return _judged(passes(film(rng), rng, replace(engine, drift_px=(1.3, 4.2)), counts=counts))


def test_a_sound_engine_passes_by_a_lattice() -> None:
    for seed in range(6):
        results = _on_lattice(seed, Engine())
        assert [one(results, metric).verdict for metric in METRICS] == [PASS] * 4, [each.message for each in results]


@pytest.mark.parametrize("wide", [0.5, 0.8, 1.2])
@pytest.mark.parametrize("counts", [1000.0, 2e4])
def test_a_sound_engine_has_no_alarm_by_atoms_that_its_step_hardly_resolves(wide: float, counts: float) -> None:
    for seed in range(6):
        rng = np.random.default_rng(seed)
        results = _judged(passes(crystal(rng, wide=wide), rng, Engine(), number=1, counts=counts))
        assert WARN not in {one(results, metric).verdict for metric in METRICS}, [each.message for each in results]


@pytest.mark.parametrize("wide", [0.5, 0.8, 1.2])
def test_jitter_of_such_atoms_never_passes(wide: float) -> None:
    for seed in range(6):
        rng = np.random.default_rng(seed)
        results = _judged(passes(crystal(rng, wide=wide), rng, Engine(jitter=0.5), number=1, counts=2e4))
        assert one(results, "scan.jitter").verdict is not PASS


@pytest.mark.parametrize("true", [0.1, 0.2, 0.5])
def test_jitter_by_a_lattice_is_measured_within_its_error(true: float) -> None:
    found = [one(_on_lattice(seed, Engine(jitter=true)), "scan.jitter") for seed in range(10)]
    values, errors = (np.array([getattr(each, name) for each in found]) for name in ("value", "uncertainty"))
    # 10 x 96 places draw their own rms to 2.3 %; twice that and what the errors of the rows leave.
    assert np.mean(values) == pytest.approx(true, rel=0.1)
    # The scatter of ten values is known to a quarter.
    assert 0.5 < np.std(values) / np.mean(errors) < 1.6


@pytest.mark.parametrize("true", [0.1, 0.2, 0.4])
def test_jitter_between_passes_is_that_of_one(true: float) -> None:
    found = [one(_on_film(seed, Engine(jitter=true)), "scan.jitter").value for seed in range(8)]
    # 48 rows give a standard deviation to a tenth; large shifts fall a little short of the linear fit.
    assert np.mean(found) == pytest.approx(true, rel=0.25)


@pytest.mark.parametrize("measured", [_on_lattice, _on_film])
def test_jitter_far_beyond_the_limit_warns(measured: Callable[[int, Engine], Results]) -> None:
    assert {one(measured(seed, Engine(jitter=0.5)), "scan.jitter").verdict for seed in range(6)} == {WARN}


@pytest.mark.parametrize(("true", "verdict"), [(0.1, PASS), (0.4, WARN)])
def test_hum_by_a_lattice_is_measured_with_its_frequency(true: float, verdict: Verdict) -> None:
    for seed in range(6):
        found = one(_on_lattice(seed, Engine(hum=true)), "scan.hum")
        # A sine's phase moves over 48 rows by enough to give its rms to a tenth.
        assert found.value == pytest.approx(true, rel=0.15)
        assert found.verdict is verdict
        assert "13 Hz" in found.message or "period of 7." in found.message


def test_hum_between_passes_is_a_warning_or_unknown_and_never_a_pass() -> None:
    for seed in range(5):
        assert one(_on_film(seed, Engine()), "scan.hum").verdict is UNKNOWN
        assert one(_on_film(seed, Engine(hum=0.05)), "scan.hum").verdict is UNKNOWN
    verdicts = {one(_on_film(seed, Engine(hum=0.4)), "scan.hum").verdict for seed in range(8)}
    # Phases that happen to agree hide it in some of them.
    assert WARN in verdicts <= {WARN, UNKNOWN}


@pytest.mark.parametrize("true", [0.3, 1.0, 3.0])
def test_the_lag_after_the_flyback_is_measured_by_a_lattice(true: float) -> None:
    for seed in range(6):
        found = one(_on_lattice(seed, Engine(lag=true)), "scan.flyback")
        assert found.uncertainty is not None
        assert found.value == pytest.approx(true, abs=max(0.15 * true, 3.5 * found.uncertainty))
        assert found.verdict is (WARN if true > 0.5 else PASS)


def test_passes_show_the_lag_only_where_they_lie_off_each_other() -> None:
    for seed in range(4):
        far = one(_on_film(seed, Engine(lag=2.0)), "scan.flyback")
        assert far.verdict is WARN
        assert far.value == pytest.approx(2.0, rel=0.35)
        rng = np.random.default_rng(seed)
        near = passes(film(rng), rng, Engine(lag=2.0, drift_px=(3.0, 0.4)))
        assert one(_judged(near), "scan.flyback").verdict is UNKNOWN


def test_distortion_is_measured_and_never_an_alarm() -> None:
    for seed in range(4):
        bent = one(_on_lattice(seed, Engine(barrel=1.5)), "scan.distortion")
        assert bent.verdict is UNKNOWN
        assert bent.value is not None
        assert bent.value > 0.5
        small = one(_on_lattice(seed, Engine(barrel=0.2)), "scan.distortion")
        assert small.verdict is PASS


def _noise(rng: np.random.Generator, shape: tuple[int, int]) -> RunMaps:
    return maps_of_scene(np.zeros(shape), rng, 50.0)


ODD = (
    "one pass of a film",
    "noise",
    "one row",
    "one column",
    "one position",
    "no counts",
    "nan",
    "gaps",
    "nothing seen",
)


@pytest.mark.parametrize("odd", ODD)
def test_what_shows_nothing_is_not_measurable(odd: str) -> None:
    rng = np.random.default_rng(0)
    shape = {"one row": (1, 40), "one column": (40, 1), "one position": (1, 1)}.get(odd, (24, 24))
    made = [_noise(rng, shape) for _ in range(2)]
    if odd == "one pass of a film":
        made = passes(film(rng), rng, Engine(), number=1)
    if odd == "no counts":
        nothing = np.zeros(shape, np.uint64)
        made = [replace(each, total=nothing, virtual={"disk": nothing}) for each in made]
    if odd == "nan":
        made = [replace(each, com_y_px=np.full(shape, np.nan, np.float32)) for each in made]
    if odd in ("gaps", "nothing seen"):
        seen = rng.random(shape) < (0.5 if odd == "gaps" else 0.0)
        made = [replace(each, recorded=seen) for each in made]
    results = _judged(made)
    assert {one(results, metric).verdict for metric in METRICS} == {UNKNOWN}
    assert all(each.message for each in results)


def test_a_scan_too_noisy_for_its_limits_says_so() -> None:
    results = _on_lattice(0, Engine(), counts=1.0)
    assert PASS not in {one(results, metric).verdict for metric in ("scan.jitter", "scan.flyback")}
