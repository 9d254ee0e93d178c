"""The probe against the reference simulations and against its own sign convention."""

import json
from math import pi
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stem4d import optics
from stem4d.simulate.probe import Aberrations, chi_rad, diameter_a, spectrum


def real_space_probe(kev: float, alpha_mrad: float, aberrations: Aberrations, extent_a: float, pixels: int) -> Any:
    """ψ(r) at the middle of a square box, in the references' norm: Σ|fft2 ψ|² = 1."""
    k = np.fft.fftfreq(pixels, extent_a / pixels)
    angle = optics.wavelength_a(kev) * k * 1e3
    wave = spectrum(angle[:, None], angle[None, :], kev, alpha_mrad, aberrations)
    middle = np.exp(-2j * pi * k * extent_a / 2)
    wave = wave * middle[:, None] * middle[None, :]
    return np.fft.ifft2(wave / np.sqrt(np.sum(np.abs(wave) ** 2)))


def of_reference(c: dict[str, float]) -> Aberrations:
    """Aberrations by the reference's names: Å and rad."""
    return Aberrations(
        defocus_nm=c.get("defocus", -c.get("C10", 0.0)) / 10,
        astigmatism_nm=c.get("C12", 0.0) / 10,
        astigmatism_angle_deg=np.degrees(c.get("phi12", 0.0)),
        spherical_aberration_mm=c.get("Cs", c.get("C30", 0.0)) * 1e-7,
        coma_nm=c.get("C21", 0.0) / 10,
        coma_angle_deg=np.degrees(c.get("phi21", 0.0)),
        threefold_astigmatism_nm=c.get("C23", 0.0) / 10,
        threefold_astigmatism_angle_deg=np.degrees(c.get("phi23", 0.0)),
        star_um=c.get("C32", 0.0) * 1e-4,
        star_angle_deg=np.degrees(c.get("phi32", 0.0)),
        fourfold_astigmatism_um=c.get("C34", 0.0) * 1e-4,
        fourfold_astigmatism_angle_deg=np.degrees(c.get("phi34", 0.0)),
    )


@pytest.mark.parametrize("case", ["p1", "p2", "p3", "p4", "p5", "p6", "p7"])
def test_probe_profiles_and_radii_are_those_of_the_reference(recorded_data: Path, case: str) -> None:
    with np.load(recorded_data / "reference_abtem" / "b_probes_chi.npz") as reference:
        known = {name: reference[name] for name in reference.files if name.startswith(case)}
    setup = json.loads(str(known[f"{case}_params"]))
    aberrations = of_reference(setup["ab"])
    wave = real_space_probe(
        setup["energy"] / 1e3, setup["semiangle_cutoff"], aberrations, setup["extent"], setup["gpts"]
    )
    intensity = np.abs(wave) ** 2
    middle = setup["gpts"] // 2
    # The reference holds its waves in single precision and rounds λ at 7e-9: 1e-6 of the peak.
    peak = intensity.max()
    # Its axis 0 is x, ours is y.
    np.testing.assert_allclose(intensity[middle, middle:], known[f"{case}_I_axis0"], atol=1e-6 * peak)
    np.testing.assert_allclose(intensity[middle:, middle], known[f"{case}_I_axis1"], atol=1e-6 * peak)
    # Radii are read off the pixels' distances, so they agree to a pixel or better, here to rounding.
    y, x = np.indices(intensity.shape) - middle
    radius = np.hypot(y, x).ravel() * setup["sampling_A"]
    order = np.argsort(radius)
    inside = np.cumsum(intensity.ravel()[order]) / intensity.sum()
    for part in (50, 90):
        found = radius[order][np.searchsorted(inside, part / 100)]
        assert found == pytest.approx(float(known[f"{case}_r{part}_A"]), abs=setup["sampling_A"])


@pytest.mark.parametrize("case", ["p1", "p4"])
def test_complex_wave_is_that_of_the_reference(recorded_data: Path, case: str) -> None:
    with np.load(recorded_data / "reference_abtem" / "b_probes_chi.npz") as reference:
        crop, setup = reference[f"{case}_wave_crop"], json.loads(str(reference[f"{case}_params"]))
    whole = real_space_probe(setup["energy"] / 1e3, setup["semiangle_cutoff"], of_reference(setup["ab"]), 40, 512)
    wave = whole[192:320, 192:320].T  # its axis 0 is x
    # Complex single precision in the file.
    assert np.abs(wave - crop).max() < 1e-6 * np.abs(crop).max()


def test_aberration_function_is_that_of_the_reference(recorded_data: Path) -> None:
    with np.load(recorded_data / "reference_abtem" / "b_probes_chi.npz") as reference:
        alpha, phi, expected = reference["chi_alpha_rad"], reference["chi_phi_rad"][:, None], reference["chi_rad"]
        c = json.loads(str(reference["chi_params"]))
    # What this simulator does not have, fifth order, is taken off the reference by the formula of its README.
    beyond = 2 * pi / optics.wavelength_a(c["energy"] / 1e3) * alpha**6 / 6 * c["C50"]
    ours = of_reference(c)
    chi = chi_rad(alpha * np.sin(phi) * 1e3, alpha * np.cos(phi) * 1e3, c["energy"] / 1e3, ours)
    # The reference's own agreement with a second implementation is 9e-8 rad.
    np.testing.assert_allclose(chi, expected - beyond, atol=1e-6)


@pytest.mark.parametrize(("angle_deg", "long_axis"), [(0.0, "y"), (90.0, "x")])
def test_astigmatic_line_focus_lies_across_the_corrected_azimuth(angle_deg: float, long_axis: str) -> None:
    # Defocus +C12 gives C10 = -C12: rays along φ12 are in focus, those across it are not and spread the probe.
    aberrations = Aberrations(defocus_nm=20, astigmatism_nm=20, astigmatism_angle_deg=angle_deg)
    intensity = np.abs(real_space_probe(200, 20, aberrations, 40, 256)) ** 2
    offset = np.arange(256) - 128
    spread = {"y": intensity.sum(1) @ offset**2, "x": intensity.sum(0) @ offset**2}
    other = "x" if long_axis == "y" else "y"
    assert spread[long_axis] > 5 * spread[other]


def test_one_pixel_edge_gives_the_area_of_the_aperture_wherever_it_lands() -> None:
    index = np.arange(64) - 31.5
    for shift in np.linspace(0, 1, 11):
        wave = spectrum((index - shift)[:, None], (index + 0.3)[None, :], 200, 20.0, Aberrations(), pixel_mrad=1.0)
        # The edge is taken as straight within a pixel, which is wrong by its sagitta there, 1/(24 R) on average, along
        # the rim: 1/(12 R²) of the area, and somewhat more where corners are cut.
        assert np.sum(np.abs(wave) ** 2) == pytest.approx(pi * 20**2, rel=2 / (12 * 20**2))


@pytest.mark.parametrize(
    ("kev", "alpha", "aberrations", "r90_a"),
    [
        (300, 27.6, Aberrations(20), 5.31),
        (300, 4.0, Aberrations(1500), 56.52),
        (80, 30, Aberrations(spherical_aberration_mm=1), 230.9),
        (80, 10, Aberrations(64.7, spherical_aberration_mm=1), 4.23),
    ],
)
def test_room_for_the_probe_holds_nine_tenths_of_the_beam(
    kev: float, alpha: float, aberrations: Aberrations, r90_a: float
) -> None:
    room = diameter_a(kev, alpha, aberrations)
    # Not wasteful either: the caustic of Cs, the worst case, has its 90 % radius at 0.85 of its rim.
    assert 2 * r90_a < room < 2 * 2 * r90_a
