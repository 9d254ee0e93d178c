"""Virtual images from maps and from frames against the reference simulation, moving patterns, and masks that miss."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from analyse_world import InMemory, picture, run
from deflected_world import SIDE, deflecting, given
from pydantic import ValidationError
from quality_world import maps_of

from stem4d.analyse.lattice_found import lattice_of
from stem4d.analyse.method import Given, NotPossible
from stem4d.analyse.virtual.masks import LatticeDisks, Pixels, Ring, VirtualOptions, mask_of, usual_rings
from stem4d.analyse.virtual.method import VIRTUAL
from stem4d.analyse.virtual.outcome import virtual_outcome
from stem4d.errors import BadInput

BRIGHT = Ring(name="bf", inner_mrad=0.0, outer_mrad=8.0)
EDGE = Ring(name="edge", inner_mrad=6.0, outer_mrad=10.0)


def test_the_reference_simulation_is_recovered(recorded_data: Path) -> None:
    with np.load(recorded_data / "reference_abtem" / "d_MoS2_infocus.npz") as data:
        frames, delta = data["counts"], float(data["mrad_per_px"])
        exact = {"bf": data["exact_bf"] * 2e4, "adf": data["exact_adf"] * 2e4}
    known = Given(80.0, 21.4, delta, (0.04, 0.04), np.array([48.0, 48.0]), np.zeros((96, 96), bool), 0.0)
    rings = (Ring(name="bf", inner_mrad=0.0, outer_mrad=21.4), Ring(name="adf", inner_mrad=35.0, outer_mrad=66.0))
    outcome = run(VIRTUAL, known, VirtualOptions(detectors=rings), InMemory(frames))
    assert outcome.verdict == "good", outcome.reason
    for name, true in exact.items():
        found = picture(outcome, name)
        pulls = (found.values - true) / found.uncertainty
        # 1024 Poisson deviates.
        assert pulls.std() == pytest.approx(1.0, abs=0.08)
        assert abs(pulls.mean()) < 0.12


def test_images_of_the_accumulator_need_no_frame() -> None:
    made = deflecting(given())
    images = {"bf": made.frames[..., 8:24, 8:24].sum((2, 3)).astype(np.uint64)}
    scene = np.random.default_rng(0).poisson(images["bf"] * (1 + 0.2 * (np.arange(28) % 2)))
    maps = replace(maps_of(made.frames.astype(np.int64), None), virtual={"bf": scene})
    known = replace(made.given, counts_per_electron=2.0, electrons_per_pattern=3000.0)
    outcome = virtual_outcome(known, maps)
    assert outcome.verdict == "good", outcome.reason
    found = picture(outcome, "bf")
    np.testing.assert_allclose(found.values, scene / 2)
    np.testing.assert_allclose(found.uncertainty, np.sqrt(scene / 2))
    with pytest.raises(BadInput, match="what was acquired has bf"):
        virtual_outcome(known, maps, ["haadf"])
    with pytest.raises(NotPossible):
        virtual_outcome(known, replace(maps, recorded=np.zeros(maps.scan_shape, bool)))
    assert "full scale" in virtual_outcome(known, replace(maps, saturated_px=maps.total)).reason


def test_a_pattern_that_moves_under_a_still_ring_is_told_and_a_pass_follows_it() -> None:
    known = given(descan_px=4.0)
    made = deflecting(known, height_rad=0.0)
    middle = np.array([15.7, 15.2])
    still = mask_of(BRIGHT, known, (SIDE, SIDE), (15.7, 15.2))
    image = (made.frames * still).sum((2, 3)).astype(np.uint64)
    maps = replace(maps_of(made.frames.astype(np.int64), None), virtual={"bf": image})
    outcome = virtual_outcome(known, maps, rings={"bf": BRIGHT})
    assert outcome.verdict == "doubtful"
    assert "moves by up to" in outcome.reason
    assert "moves by up to" not in virtual_outcome(replace(known, origin_px=middle), maps, rings={"bf": BRIGHT}).reason
    followed = picture(run(VIRTUAL, known, VirtualOptions(detectors=(BRIGHT,)), InMemory(made.frames)), "bf")
    # Counting makes 61 of 3700; whole pixels of a mask leave half a pixel of movement.
    assert followed.values.std() < 1.15 * np.sqrt(followed.values.mean())
    assert image.std() > 4 * np.sqrt(image.mean())


def test_masks_on_a_lattice_that_is_found(recorded_data: Path) -> None:
    with np.load(recorded_data / "reference_abtem" / "e_strain_Al001.npz") as data:
        frames, delta = data["counts"][:4, :5], float(data["mrad_per_px"])
    middle = frames.shape[-1] // 2
    known = Given(200.0, 1.8, delta, (1.0, 1.0), np.array([middle, middle]), np.zeros(frames.shape[2:], bool), 0.0)
    basis = lattice_of(frames.sum((0, 1), dtype=float), known.bad_pixels, (middle, middle), 1.8 / delta)
    # {200} at 47.4 px, the two directions at right angles; strains of up to 2 % on the average of these points.
    assert np.hypot(*basis.T) == pytest.approx([47.4, 47.4], rel=0.02)
    assert abs(basis[0] @ basis[1]) < 0.03 * 47.4**2
    found = LatticeDisks(kind="lattice", name="bragg", radius_mrad=1.8, orders=1)
    stated = LatticeDisks(
        kind="lattice",
        name="given",
        radius_mrad=1.8,
        orders=1,
        g1_mrad=(0.0, 47.4 * delta),
        g2_mrad=(47.4 * delta, 0.0),
    )
    outcome = run(VIRTUAL, known, VirtualOptions(detectors=(found, stated)), InMemory(frames))
    one, other = picture(outcome, "bragg").values, picture(outcome, "given").values
    # Four {200} of 2 % each and, partly on the detector, {220}.
    assert one.mean() / frames.sum((2, 3)).mean() > 0.07
    assert one.mean() == pytest.approx(other.mean(), rel=0.05)
    with pytest.raises(NotPossible, match="no lattice"):
        lattice_of(np.random.default_rng(0).poisson(5.0, (128, 128)), known.bad_pixels, (middle, middle), 6.9)


def test_any_pixels_and_their_following() -> None:
    known = given(descan_px=4.0)
    made = deflecting(known, height_rad=0.0)
    mask = np.zeros((SIDE, SIDE), bool)
    mask[8:16] = True
    pixels = Pixels(kind="pixels", name="half", rows=tuple("".join("01"[int(one)] for one in row) for row in mask))
    outcome = run(VIRTUAL, known, VirtualOptions(detectors=(pixels,)), InMemory(made.frames))
    still = (made.frames * mask).sum((2, 3))
    assert picture(outcome, "half").values.std() < 0.4 * still.std()
    fixed = replace(known, origin_px=np.array([15.7, 15.2]))
    plain = run(VIRTUAL, fixed, VirtualOptions(detectors=(pixels,)), InMemory(made.frames))
    np.testing.assert_array_equal(picture(plain, "half").values, still)
    moved = mask_of(pixels, known, (SIDE, SIDE), (0.0, 0.0), moved_px=(3, -2))
    np.testing.assert_array_equal(moved, np.roll(mask, 3, axis=0) & (np.arange(SIDE) < SIDE - 2))
    small = VirtualOptions(detectors=(Pixels(kind="pixels", name="p", rows=("01", "10")),))
    with pytest.raises(BadInput, match="detector's shape"):
        run(VIRTUAL, fixed, small, InMemory(made.frames))


def test_masks_off_the_detector_and_mostly_off_it() -> None:
    made = deflecting(given())
    beyond = VirtualOptions(detectors=(Ring(name="far", inner_mrad=60.0, outer_mrad=90.0),))
    with pytest.raises(BadInput, match="reaches 2") as refused:
        run(VIRTUAL, made.given, beyond, InMemory(made.frames))
    assert refused.value.field == "far"
    partly = VirtualOptions(detectors=(Ring(name="corners", inner_mrad=12.0, outer_mrad=80.0),))
    outcome = run(VIRTUAL, made.given, partly, InMemory(made.frames))
    assert outcome.verdict == "doubtful"
    assert "lie on good pixels" in outcome.reason
    # Of 24 disks 8 lie on the detector, 16 beyond its edge at 16 mrad.
    wide = LatticeDisks(kind="lattice", name="wide", radius_mrad=3.0, g1_mrad=(0.0, 11.0), g2_mrad=(11.0, 0.0))
    outcome = run(VIRTUAL, made.given, VirtualOptions(detectors=(wide,)), InMemory(made.frames))
    assert outcome.verdict == "doubtful"
    assert "wide: only 33% of its angles lie on good pixels" in outcome.reason
    near = wide.model_copy(update={"orders": 1, "name": "near"})
    outcome = run(VIRTUAL, made.given, VirtualOptions(detectors=(near,)), InMemory(made.frames))
    assert "lie on good pixels" not in outcome.reason
    crossed = LatticeDisks(kind="lattice", name="line", radius_mrad=1.0, g1_mrad=(3.0, 3.0), g2_mrad=(6.0, 6.0))
    with pytest.raises(BadInput, match="different directions"):
        run(VIRTUAL, made.given, VirtualOptions(detectors=(crossed,)), InMemory(made.frames))


def test_frames_that_are_missing_or_hold_no_numbers_are_left_out() -> None:
    made = deflecting(given(), (1, 28))
    frames, recorded = made.frames.astype(np.float32), np.ones((1, 28), bool)
    frames[0, 5] = np.nan
    recorded[0, 9] = False
    found = picture(run(VIRTUAL, made.given, VirtualOptions(detectors=(EDGE,)), InMemory(frames, recorded)), "edge")
    assert np.flatnonzero(np.isnan(found.values[0])).tolist() == [5, 9]
    mask = mask_of(EDGE, made.given, (SIDE, SIDE), (15.7, 15.2))
    np.testing.assert_allclose(found.values[0, 0], made.frames[0, 0][mask].sum())


def test_without_a_word_the_usual_rings_that_are_on_the_detector_are_taken() -> None:
    made = deflecting(given(convergence_semi_angle_mrad=5.0), (2, 3))
    outcome = run(VIRTUAL, made.given, VirtualOptions(), InMemory(made.frames))
    # The detector ends 16 mrad off the beam: 20 % of the ring from 12.5 to 25 mrad lies in its corners.
    assert [one.name for one in outcome.pictures] == ["bf", "abf", "adf"]
    stated = VirtualOptions(detectors=usual_rings(5.0)[:1])
    alone = run(VIRTUAL, made.given, stated, InMemory(made.frames))
    np.testing.assert_array_equal(picture(alone, "bf").values, picture(outcome, "bf").values)


def test_what_options_refuse() -> None:
    with pytest.raises(ValidationError, match="at least 1"):
        VirtualOptions(detectors=())
    with pytest.raises(ValidationError, match="larger than inner_mrad"):
        Ring(name="r", inner_mrad=3.0, outer_mrad=2.0)
    with pytest.raises(ValidationError, match="different names"):
        VirtualOptions(detectors=(BRIGHT, BRIGHT))
    with pytest.raises(ValidationError, match="both be given"):
        LatticeDisks(kind="lattice", name="l", radius_mrad=1.0, g1_mrad=(1.0, 0.0))
