"""Kinds of calibration: what they hold for, in which order they are measured, what the rules are told of them."""

from pathlib import Path

import pytest

from stem4d.errors import BadInput
from stem4d.instrument import InstrumentFile
from stem4d.plan import Plan
from stem4d.rules.figures import figures_of
from stem4d.rules.limits import CALIBRATION_NEEDS, CALIBRATIONS_FOR, EXPIRED_BY
from storage.documents import load_model
from tasks.calibrations.expected import expected_s
from tasks.calibrations.kinds import KINDS, check_kinds, in_order, kinds_for, mode_keys
from tasks.calibrations.measure import GROUPS

PLANS = Path(__file__).parents[2] / "plans"
FACTS = load_model(PLANS / "instruments" / "demo.toml", InstrumentFile).facts


def plan(*changes: str) -> Plan:
    return load_model(PLANS / "demo" / "1_overview.yaml", Plan, list(changes))


def changed_by(*changes: str) -> set[str]:
    """Kinds that do not hold any more after a change of the plan."""
    before, after = (mode_keys(one, FACTS, {}) for one in (plan(), plan(*changes)))
    return {kind for kind in KINDS if before[kind] != after[kind]}


PROJECTED = {"centre", "descan", "mrad_per_pixel", "ellipticity", "rotation"}


@pytest.mark.parametrize(
    ("change", "kinds"),
    [
        ("optics.camera_length_mm=125", PROJECTED),
        ("optics.beam_energy_kev=80", set(KINDS) - {"drift"}),
        (
            "optics.convergence_semi_angle_mrad=4.0",
            {"centre", "convergence_semi_angle", "descan", "current", "defocus"},
        ),
        # Of less current dark frames take longer, as the scans do that they are taken off from.
        ("optics.probe_current_pa=40", {"current", "dark_flat"}),
        ("optics.defocus_nm=10", {"defocus"}),
        ("scan.step_nm=0.05", {"descan", "scan_step"}),
        ("scan.rotation_deg=30", {"descan", "scan_step", "rotation"}),
        # Calibrations dwell for 3e4 electrons at least, 160 µs at the plan's 30 pA: until then nothing changes.
        ("exposure.dwell_time_us=60", set()),
        ("exposure.exposure_time_us=20", set()),
        ("exposure.dwell_time_us=5000", {"dark_flat"}),
        ("detector.bit_depth=6", set()),
        ("sample.area=flake-1", {"defocus", "drift"}),
        ("title=Another title", set()),
    ],
)
def test_a_setting_ends_what_depends_on_it_and_nothing_else(change: str, kinds: set[str]) -> None:
    assert changed_by(change) == kinds


def test_every_kind_that_a_rule_asks_for_can_be_measured_as_the_rules_say() -> None:
    assert {kind for kinds in CALIBRATIONS_FOR.values() for kind in kinds} <= set(KINDS)
    assert {name: KINDS[name].needs for name in CALIBRATION_NEEDS} == CALIBRATION_NEEDS


def test_a_change_that_the_rules_propose_names_every_calibration_that_it_ends() -> None:
    for field, named in EXPIRED_BY.items():
        setting = field.split(".")[1]
        assert set(named) == {name for name in CALIBRATION_NEEDS if setting in KINDS[name].settings}


def test_every_group_has_a_measurement() -> None:
    assert {kind.group for kind in KINDS.values()} == set(GROUPS)


def test_what_is_needed_comes_first_and_what_is_known_is_left_out() -> None:
    assert in_order(["convergence_semi_angle"], []) == ("vacuum", "scale", "angle")
    assert in_order(["convergence_semi_angle"], ["centre", "mrad_per_pixel"]) == ("angle",)
    assert in_order(["rotation", "defocus"], [])[0] == "vacuum"
    assert in_order(["rotation"], ["pixel_mask", "centre", "descan"]) == ("rotation",)
    for kind in KINDS.values():
        order = in_order([kind.name], [])
        assert order[-1] == kind.group
        assert all(order.index(KINDS[each].group) <= order.index(kind.group) for each in kind.after)


def test_default_kinds_are_those_of_the_analyses() -> None:
    assert set(kinds_for(plan())) == {
        "pixel_mask", "centre", "descan", "current", "mrad_per_pixel", "rotation", "scan_step",
    }  # fmt: skip


def test_absolute_strain_needs_the_ellipse_beside_what_relative_strain_needs() -> None:
    strain = {"kind": "strain", "reflection_d_a": 2.0, "target_strain": 0.001, "smallest_feature_nm": 5.0}
    relative, absolute = (
        Plan.model_validate(plan().model_dump() | {"analyses": (strain | {"reference": each},)})
        for each in ("region", "absolute")
    )
    assert set(kinds_for(absolute)) - set(kinds_for(relative)) == {"ellipticity"}
    assert set(kinds_for(relative)) < set(kinds_for(absolute))


def test_an_unknown_kind_is_refused_with_the_kinds_there_are() -> None:
    with pytest.raises(BadInput, match=r"disc.*mrad_per_pixel"):
        check_kinds(["centre", "disc"])
    assert check_kinds(["centre", "centre"]) == ("centre",)


def test_the_rules_see_value_and_uncertainty_under_their_own_names() -> None:
    step = figures_of(
        "scan_step",
        {"step_y_nm": 0.1, "step_x_nm": 0.12, "shear": 0.0, "nominal_step_nm": 0.1},
        {"step_y_nm": 0.001, "step_x_nm": 0.002, "shear": 0.01},
        step_nm=0.2,
    )
    assert set(step) == {"scan_step", "scan_step_y", "scan_step_x", "scan_shear"}
    assert (step["scan_step"].value, step["scan_step"].uncertainty) == (
        pytest.approx(0.2 * 1.2**0.5),
        pytest.approx(0.004),
    )
    assert (step["scan_shear"].value, step["scan_shear"].uncertainty) == (0.0, 0.01)
    defocus = figures_of("defocus", {"defocus_nm": 12.0, "astigmatism_nm": 1.0}, {"defocus_nm": 0.3}, 0.2)
    assert (defocus["defocus"].value, defocus["defocus"].uncertainty) == (12.0, 0.3)
    assert figures_of("drift", {"speed_nm_per_min": 1.0}, None, 0.2) == {}


def test_the_time_that_is_expected_follows_the_dwell_and_the_positions_that_are_measured_with() -> None:
    reference = load_model(PLANS / "calibrate" / "reference.yaml", Plan)
    facts = load_model(PLANS / "instruments" / "calibration.toml", InstrumentFile).facts
    weak = reference.model_copy(update={"optics": reference.optics.model_copy(update={"probe_current_pa": 0.1})})
    # 3e4 electrons of 0.1 pA take 48 ms, in each of the 512 frames of two vacuum scans.
    longer_s = 3e4 * 1.602177e-19 / 0.1e-12 - reference.exposure.dwell_time_us * 1e-6
    vacuum_s = [expected_s(["vacuum"], one, facts) for one in (reference, weak)]
    assert vacuum_s[1] - vacuum_s[0] == pytest.approx(512 * longer_s, rel=0.02)
    step_s = expected_s(["step"], reference, facts)
    assert step_s > 0
    # Where there is no lattice, or it cannot be resolved, nothing is exposed.
    wide = reference.model_copy(update={"scan": reference.scan.model_copy(update={"step_nm": 100.0})})
    assert expected_s(["step"], wide, facts) == 0
    assert expected_s(["step"], reference, facts.model_copy(update={"reference_areas": ()})) == 0
