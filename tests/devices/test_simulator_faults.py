"""Every knob of the simulated truth does what it says, by the amount it says, when it says."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from devices.simulator.faults import ProjectorTruth
from devices.simulator.scene import Scene, make_ready, render, shifts_px, specimen_positions_nm
from devices.simulator.settings import Area, Truth, read_settings
from stem4d.errors import BadInput
from stem4d.simulate.crystals import CELLS
from tests.devices.simulator_world import AREA, DELTA_MRAD, centres_px, column, exposure, instrument_file, raster


def truth_of(**settings: Any) -> Truth:
    return read_settings({"seed": 9, "areas": {"sample": AREA}, **settings}, ((32, 32),))


def scene_of(position: str = "vacuum", shape: tuple[int, int] = (6, 8), **settings: Any) -> Scene:
    scan = raster(shape)
    facts = instrument_file().facts.detectors[0]
    return Scene(truth_of(**settings), facts, position, column(), scan, exposure(scan), run=1)


def rendered(scene: Scene, start_s: float = 0.0) -> np.ndarray:
    frames = np.arange(scene.frames)
    parts = [
        render(scene, bench, part, start_s, np.ones(len(part), bool))
        for bench in [make_ready(scene)]
        for part in np.array_split(frames, scene.scan.shape[0])
    ]
    return np.concatenate(parts)


def moments(frames: np.ndarray) -> np.ndarray:
    """Second moments (2, 2) of the summed pattern [px²], (y, x)."""
    pattern = frames.sum(0, dtype=float)
    place = np.stack(np.indices(pattern.shape)).reshape(2, -1)
    weight = pattern.ravel() / pattern.sum()
    off = place - (place * weight).sum(1, keepdims=True)
    return (off * weight) @ off.T


def test_an_ellipse_has_its_axes_and_its_angle() -> None:
    projector = {"ellipticity": 0.2, "ellipse_angle_deg": 30.0}
    values, vectors = np.linalg.eigh(moments(rendered(scene_of(projector=projector))))
    # 1.5e6 electrons: second moments to 1e-3, so the axes' ratio to 1e-3 and the angle to 0.3 degree; five of those.
    assert np.sqrt(values[1] / values[0]) == pytest.approx(1.2, abs=0.01)
    assert np.degrees(np.arctan2(*vectors[:, 1])) % 180 == pytest.approx(30.0, abs=1.5)


def test_angle_and_convergence_ratios_scale_the_disk() -> None:
    plain, wider = (moments(rendered(scene_of(projector=each))).trace() for each in ({}, {"convergence_ratio": 1.1}))
    finer = moments(rendered(scene_of(projector={"angle_ratio": 0.9}))).trace()
    assert wider / plain == pytest.approx(1.21, rel=0.01)
    assert finer / plain == pytest.approx(1 / 0.81, rel=0.01)


def test_quadratic_descan_moves_the_pattern_by_its_products() -> None:
    quadratic = [[4.0, -6.0, 2.0], [1.0, 3.0, -5.0]]
    scene = scene_of(shape=(16, 16), projector={"descan_quadratic_mrad_per_nm2": quadratic})
    y, x = ((np.indices((16, 16)) - 7.5) * 0.1).reshape(2, -1)
    expected = np.stack([y * y, y * x, x * x], axis=1) @ np.array(quadratic).T / DELTA_MRAD
    np.testing.assert_allclose(shifts_px(scene, np.arange(256)), expected, atol=1e-9)
    # A centre is known to 5 px / (2 sqrt(3e4)) = 0.015 px.
    np.testing.assert_allclose(centres_px(rendered(scene)), expected, atol=0.08)


def test_a_beam_shift_goes_through_the_same_coils_as_the_scan() -> None:
    quadratic = {"descan_quadratic_mrad_per_nm2": [[4.0, 0.0, 0.0], [0.0, 0.0, 0.0]]}
    still = scene_of(shape=(16, 16), projector=quadratic)
    moved = replace(still, column=still.column.model_copy(update={"beam_shift_nm": (3.0, 0.0)}))
    y = ((np.indices((16, 16)) - 7.5) * 0.1)[0].ravel()
    more = (shifts_px(moved, np.arange(256)) - shifts_px(still, np.arange(256)))[:, 0]
    np.testing.assert_allclose(more, 4.0 * (9.0 + 6.0 * y) / DELTA_MRAD, atol=1e-9)


def test_a_mirrored_detector_shows_the_pattern_upside_down() -> None:
    straight, mirrored = (rendered(scene_of("sample", scan={"mirrored": each})) for each in (False, True))
    # The same specimen, noise of its own: patterns agree as far as counts of some 300 do.
    upright = straight.sum(0, dtype=float)
    assert np.corrcoef(mirrored.sum(0)[::-1].ravel(), upright.ravel())[0, 1] > 0.999
    assert np.corrcoef(mirrored[7][::-1].ravel(), straight[7].ravel().astype(float))[0, 1] > 0.98


def test_scan_errors_reach_the_specimen() -> None:
    scene = scene_of("sample", scan={"step_ratio": [1.1, 0.9], "shear": 0.05})
    plain = specimen_positions_nm(scene_of("sample"), np.arange(48), 0.0)
    found = np.linalg.lstsq(plain, specimen_positions_nm(scene, np.arange(48), 0.0))[0].T
    np.testing.assert_allclose(found, [[1.1, 0], [0.055, 0.9]], atol=1e-9)


def test_a_beam_that_drops_out_and_tires() -> None:
    dropout = {"at_s": 2e-3, "seconds": 1e-3, "part": 0.0}
    frames = rendered(scene_of(beam={"dropouts": [dropout], "drift_per_h": -0.5}), start_s=0.0)
    # Rows of 8 x 100 us and 50 us: frames 2.0 to 3.0 ms are dark.
    row, at = np.divmod(np.arange(48), 8)
    times = row * 850e-6 + at * 100e-6
    dark = (times >= 2e-3) & (times < 3e-3)
    assert (frames.sum((1, 2)) == 0).tolist() == dark.tolist()
    later = rendered(scene_of(beam={"drift_per_h": -0.5}), start_s=3600.0)
    assert later.sum() / frames[~dark].sum() * (~dark).sum() / 48 == pytest.approx(0.5, rel=0.01)


def test_gaps_count_nothing_and_blur_spreads_the_edge() -> None:
    frames = rendered(scene_of(detector={"gaps": [[15, 0, 17, 32]], "blur_px": 0.8}))
    assert frames[:, 15:17].sum() == 0
    assert frames[:, 14].sum() > 0
    sharp = rendered(scene_of())
    # Pixels at two thirds of the radius beyond the edge see nothing of a sharp disk of 5 px.
    outside = np.hypot(*(np.indices((32, 32)) - 15.5)) > 6
    assert sharp.sum(0)[outside].sum() == 0
    assert frames.sum(0)[outside].sum() > 0


def test_an_integrating_detector_stands_on_its_dark_level() -> None:
    detector = {"kind": "integrating", "counts_per_electron": 2.0, "dark_counts": 50.0, "read_noise_counts": 3.0}
    frames = rendered(scene_of(detector=detector))
    assert frames[:, 0, :].mean() == pytest.approx(50, abs=0.5)
    lit = frames.sum((1, 2), dtype=float).mean() - 50 * 32 * 32
    assert lit == pytest.approx(2 * rendered(scene_of()).sum((1, 2)).mean(), rel=0.01)


def test_a_knob_turns_when_its_schedule_says_and_back_again() -> None:
    change = {"at_s": 10.0, "until_s": 20.0, "knob": "misalignment_mrad", "value": [4.0, 0.0]}
    scene = scene_of(schedule=[change])
    for start_s, expected in ((5.0, 0.0), (12.0, 2.0), (20.5, 0.0)):
        assert centres_px(rendered(scene, start_s)).mean(0)[0] == pytest.approx(expected, abs=0.02)
    # In the middle of a scan: from the next batch of frames on.
    across = centres_px(rendered(scene, 10.0 - 3 * 850e-6))[:, 0]
    np.testing.assert_allclose(across, np.where(np.arange(48) < 24, 0.0, 2.0), atol=0.1)


AT_10_S = {"at_s": 10.0}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ([{"at_s": 1.0, "knob": "projector.elipticity", "value": 0.1}], "no knob"),
        ([{"at_s": 1.0, "knob": "projector.ellipticity", "value": "much"}], "at 1 s: projector.ellipticity"),
        ([{"at_s": -1.0, "knob": "misalignment_mrad", "value": [0.0, 0.0]}], "at_s"),
        ([AT_10_S | {"knob": "frames_per_s", "value": 5.0}], "whole session"),
        ([AT_10_S | {"knob": "speed", "value": "real"}], "whole session"),
        ([AT_10_S | {"knob": "hot_pixels", "value": [[500, 500]]}], r"at 10 s.hot_pixels: got \(500, 500\) px"),
        ([AT_10_S | {"knob": "areas", "value": {}}], "keep the areas there are: sample"),
        ([AT_10_S | {"knob": "areas.sample.beam_damage", "value": {}}], "cannot begin by a schedule"),
        ([AT_10_S | {"until_s": 9.0, "knob": "seed", "value": 1}], "until_s: 9 s is not after at_s, 10 s"),
        # Each is good by itself; the second one leaves the third without what it needs.
        (
            [
                AT_10_S | {"knob": "areas.sample.specimen", "value": "crystal"},
                {"at_s": 11.0, "knob": "areas.sample.spacing_a", "value": None},
                {"at_s": 12.0, "knob": "areas.sample.specimen", "value": "square"},
            ],
            "at 12 s: areas.sample.* needs spacing_a",
        ),
    ],
)
def test_a_schedule_that_cannot_be_is_refused_at_once(changes: list[dict[str, Any]], words: str) -> None:
    with pytest.raises(BadInput, match=words):
        truth_of(schedule=changes)


@pytest.mark.parametrize("name", ["Au.2", "FLAKE-1", "seed"])
def test_a_schedule_reaches_every_legal_name_of_an_area(name: str) -> None:
    change = AT_10_S | {"knob": f"areas.{name}.drift_nm_per_min", "value": [1.0, 2.0]}
    truth = read_settings({"areas": {"Au": AREA, name: AREA}, "schedule": [change]}, ((32, 32),))
    assert truth.at(10.0).areas[name].drift_nm_per_min == (1.0, 2.0)


def test_a_change_may_rest_on_an_earlier_one() -> None:
    """Turning a knob within an earlier change's value leaves that value as it was written."""
    first = {"at_s": 1.0, "until_s": 3.0, "knob": "projector", "value": {"ellipticity": 0.1}}
    second = {"at_s": 2.0, "knob": "projector.angle_ratio", "value": 0.9}
    table = {"at_s": 1.0, "knob": "areas.sample.displacement", "value": {"inclusion": 0.01}}
    inner = {"at_s": 2.0, "knob": "areas.sample.displacement.inclusion", "value": 0.02}
    truth = truth_of(schedule=[first, second, table, inner])
    assert truth.at(2.0).projector == ProjectorTruth(ellipticity=0.1, angle_ratio=0.9)
    assert truth.at(3.0).projector == ProjectorTruth(angle_ratio=0.9)
    assert [truth.at(moment).areas["sample"].displacement.inclusion for moment in (2.0, 1.0)] == [0.02, 0.01]


def numbers_of(schema: dict[str, Any], name: str = "", definitions: dict[str, Any] | None = None) -> Iterator[Any]:
    """Every number of a model's JSON schema that a document may state, with its dotted name."""
    definitions = schema["$defs"] if definitions is None else definitions
    if "$ref" in schema:
        schema = definitions[schema["$ref"].rsplit("/", 1)[-1]]
    if schema.get("type") in ("number", "integer"):
        yield name, schema
    inner = [*schema.get("anyOf", []), *schema.get("prefixItems", [])]
    inner += [schema[key] for key in ("items", "additionalProperties") if isinstance(schema.get(key), dict)]
    for one in inner:
        yield from numbers_of(one, name, definitions)
    for key, one in schema.get("properties", {}).items():
        yield from numbers_of(one, f"{name}.{key}".strip("."), definitions)


def test_every_number_has_a_lowest_and_a_highest_value() -> None:
    found = list(numbers_of(Truth.model_json_schema()))
    assert len(found) > 60
    without = [
        name
        for name, schema in found
        if not schema.keys() & {"minimum", "exclusiveMinimum"} or not schema.keys() & {"maximum", "exclusiveMaximum"}
    ]
    assert without == []


def area(**facts: Any) -> dict[str, Any]:
    return {"areas": {"a": AREA | facts}}


@pytest.mark.parametrize(
    ("settings", "field", "words"),
    [
        ({"misalignment_mrad": [1e300, 0.0]}, "misalignment_mrad[0]", "1e+300 mrad; has to be at most 1000"),
        (area(drift_nm_per_min=[0.0, 1e300]), "drift_nm_per_min[1]", "nm/min; has to be at"),
        ({"scan": {"step_ratio": [1e200, 1.0]}}, "scan.step_ratio[0]", "at most 10"),
        ({"scan": {"jitter_a_rms": 1e300}}, "scan.jitter_a_rms", "Å; has to be at most 1000"),
        ({"scan": {"barrel_per_um2": 1e300}}, "scan.barrel_per_um2", "1/µm²; has to be at most 1000"),
        ({"projector": {"angle_ratio": 1e-300}}, "projector.angle_ratio", "at least 0.1"),
        ({"projector": {"angle_ratio": 1e300}}, "projector.angle_ratio", "at most 10"),
        (area(thickness_nm=1e9), "thickness_nm", "nm; has to be at most 500"),
        ({"detector": {"blur_px": 1e9}}, "detector.blur_px", "px; has to be at most 20"),
        (area(material="Xx"), "material", "'Au', 'Al', 'Si' or 'SrTiO3'"),
        ({"detector": {"gaps": [[20, 20, 10, 10]]}}, "detector", "gaps: [20, 20, 10, 10] is empty"),
        (area(beam_damage={"contamination_rad_per_e_per_a2": 1e300}), "contamination", "at most"),
        (area(beam_damage={"critical_e_per_a2": 1e-300}), "critical_e_per_a2", "at least 0.001"),
        (area(beam_damage={"critical_power": 1e300}), "critical_power", "at most 4"),
        ({"frames_per_s": 1e300}, "frames_per_s", "1/s; has to be at most"),
    ],
)
def test_what_no_instrument_has_is_refused_at_opening(settings: dict[str, Any], field: str, words: str) -> None:
    with pytest.raises(BadInput) as told:
        read_settings(settings, ((32, 32),))
    assert field in told.value.field
    assert words in str(told.value)


def test_the_materials_of_an_area_are_those_there_are() -> None:
    for material in CELLS:
        assert Area(specimen="crystal", material=material).physics.material == material
