"""Multislice against the reference simulation, slice by slice, and against what it must conserve."""

from math import pi
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stem4d import optics
from stem4d.errors import BadInput
from stem4d.simulate.multislice import Column, band_limit, column, diffraction, exit_waves
from stem4d.simulate.probe import Aberrations, spectrum

# The reference is held in single precision, 6e-8. Twenty slices of single precision leave 4e-6 of the peak.
SINGLE, DOUBLE = 1e-5, 1e-6


@pytest.fixture(scope="module")
def strontium_titanate(recorded_data: Path) -> dict[str, Any]:
    with np.load(recorded_data / "reference_abtem" / "c_STO_exitwaves.npz") as reference:
        return {name: reference[name] for name in reference.files}


def specimen(known: dict[str, Any], dtype: type, slices: int = 20) -> Column:
    # Its axis 0 is x, ours is y.
    potentials = known["slices_eVA"].transpose(0, 2, 1)
    size = float(known["extent_A"][0]) / potentials.shape[1]
    order = tuple(number % 2 for number in range(slices))
    return column(potentials, order, float(known["slice_thickness_A"][0]), 200.0, (size, size), dtype)


def probes(known: dict[str, Any], positions: list[int], dtype: type) -> Any:
    pixels, extent = known["probe"].shape[0], float(known["extent_A"][0])
    k = np.fft.fftfreq(pixels, extent / pixels)
    angle = optics.wavelength_a(200.0) * k * 1e3
    wave = spectrum(angle[:, None], angle[None, :], 200.0, 20.0, Aberrations())
    wave = wave / np.sqrt(np.sum(np.abs(wave) ** 2))
    waves = [
        np.fft.ifft2(wave * np.exp(-2j * pi * (k[:, None] * y + k[None, :] * x)))
        for x, y in known["positions_A"][positions]
    ]
    return np.array(waves, dtype=dtype)


def transposed(waves: Any) -> Any:
    return waves.transpose(0, 2, 1) if waves.ndim == 3 else waves.T


def test_the_probe_is_that_of_the_reference(strontium_titanate: dict[str, Any]) -> None:
    (wave,) = probes(strontium_titanate, [3], np.complex128)
    expected = transposed(strontium_titanate["probe"])
    assert np.abs(wave - expected).max() < DOUBLE * np.abs(expected).max()


@pytest.mark.parametrize(("dtype", "tolerance"), [(np.complex128, DOUBLE), (np.complex64, SINGLE)])
def test_exit_waves_and_patterns_are_those_of_the_reference(
    strontium_titanate: dict[str, Any], dtype: type, tolerance: float
) -> None:
    known = strontium_titanate
    after_one = exit_waves(probes(known, [3], dtype), specimen(known, dtype, 1))[0]
    expected = transposed(known["exit_after_slice0"])
    assert np.abs(after_one - expected).max() < tolerance * np.abs(expected).max()
    through = exit_waves(probes(known, [0, 1, 3], dtype), specimen(known, dtype))
    expected = transposed(known["exit_waves"])
    assert np.abs(through - expected).max() < tolerance * np.abs(expected).max()
    every = diffraction(probes(known, [0, 1, 2, 3, 4], dtype), specimen(known, dtype))
    pixels = known["patterns"].shape[1]
    frames = np.fft.fftshift(every, axes=(1, 2))
    first = frames.shape[1] // 2 - pixels // 2
    frames = frames[:, first : first + pixels, first : first + pixels]
    expected = transposed(known["patterns"])
    assert np.abs(frames - expected).max() < tolerance * expected.max()


def test_vacuum_changes_nothing_but_focus() -> None:
    pixels, size = 128, 0.2
    nothing = column(np.zeros((1, pixels, pixels)), (0,) * 10, 20.0, 200.0, (size, size), np.complex128)
    k = np.fft.fftfreq(pixels, size)
    angle = optics.wavelength_a(200.0) * k * 1e3
    underfocused, focused = (
        np.fft.ifft2(spectrum(angle[:, None], angle[None, :], 200.0, 15.0, Aberrations(defocus_nm)))[None]
        for defocus_nm in (20.0, 0.0)
    )
    # 200 Å of vacuum bring an underfocus of 20 nm to focus: the crossover lies behind the entrance.
    arrived = exit_waves(underfocused.astype(np.complex128), nothing)
    assert np.abs(arrived - focused).max() < 1e-9 * np.abs(focused).max()


@pytest.mark.parametrize("shape", [(64, 64), (60, 96)])
def test_band_limit_lets_two_thirds_pass(shape: tuple[int, int]) -> None:
    aperture = band_limit(shape, (0.1, 0.1))
    k = np.hypot(np.fft.fftfreq(shape[0], 0.1)[:, None], np.fft.fftfreq(shape[1], 0.1)[None, :])
    # Nyquist at 5 per Å, the cosine edge 0.1 per Å wide.
    assert aperture[k < 10 / 3 - 0.1].min() == 1
    assert aperture[k > 10 / 3].max() == 0


def test_a_phase_object_in_one_slice_conserves_what_the_band_lets_pass() -> None:
    smooth = 40 * np.cos(2 * pi * np.arange(64) / 64)[None, :, None] * np.ones((1, 1, 64))
    one = column(smooth, (0,), 1.0, 300.0, (0.3, 0.3), np.complex128)
    wave = np.ones((1, 64, 64), np.complex128) / 64**2
    # Spatial frequencies of so smooth a phase lie far below the limit: 1e-12 of rounding.
    assert diffraction(wave, one).sum() == pytest.approx(1.0, abs=1e-12)


@pytest.mark.parametrize(("order", "thickness", "field"), [((), 1.0, "order"), ((0, 1), 1.0, "order"),
                                                           ((0,), 0.0, "slice_thickness_a")])  # fmt: skip
def test_slices_that_are_not_there_are_refused(order: tuple[int, ...], thickness: float, field: str) -> None:
    with pytest.raises(BadInput) as refused:
        column(np.zeros((1, 8, 8)), order, thickness, 200.0, (0.1, 0.1))
    assert refused.value.field == field
