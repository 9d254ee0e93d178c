"""The hand-over of thick specimens: its content, its files, and phaser running on them."""

import os
import subprocess
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt
import pytest
import yaml
from scipy import ndimage

from stem4d import optics
from stem4d.analyse.method import Given, NotPossible
from stem4d.analyse.ptychography.geometry import crop_of
from stem4d.analyse.ptychography.handover import parameters, slices_of
from stem4d.analyse.ptychography.options import PtychographyOptions
from stem4d.errors import BadInput
from stem4d.simulate.multislice import column, diffraction
from stem4d.simulate.probe import Aberrations, spectrum
from storage.handover import write_handover
from tests.peer_environments import python_of
from tests.stem4d.analyse_world import InMemory
from tests.stem4d.ptychography_world import SCAN, SIDE, counted, known, likeness, plain_patterns

BENCH_PEERS = Path(__file__).parents[2] / "benchmarks" / "peers"


def test_parameters_are_in_the_engines_units_and_signs() -> None:
    given = known(thickness_nm=8.0, scan_rotation_deg=30.0, mirrored=True)
    options = PtychographyOptions(model="multislice", slice_thickness_nm=2.0, probe_modes=2)
    crop = crop_of(given, (SCAN, SCAN), (SIDE, SIDE))
    told = parameters(given, options, crop, (SCAN, SCAN), "patterns.npy", "x")
    assert told["slices"] == {"n": 4, "slice_thickness": 20.0}
    assert told["init"]["probe"]["defocus"] == -100.0
    assert told["init"]["scan"]["step_size"] == [1.0, 1.0]
    # A step along the scan's x: M turn(a) r of docs/conventions.md on (y, x).
    turned = np.array(told["init"]["scan"]["affine"]) @ [0.0, 1.0]
    assert turned == pytest.approx([-np.sin(np.radians(30)), np.cos(np.radians(30))])
    assert told["engines"][0]["probe_modes"] == 2


def test_slices_follow_from_what_one_of_them_carries() -> None:
    options = PtychographyOptions(target_d_a=1.0)
    carried = optics.single_slice_thickness_a(80.0, 0.5)
    cut = slices_of(known(thickness_nm=10.0), options, SIDE)
    assert cut["slice_thickness"] <= carried
    assert cut["n"] * cut["slice_thickness"] == pytest.approx(100)
    with pytest.raises(NotPossible, match="thickness is not known"):
        slices_of(known(), options, SIDE)


def test_files_hold_the_patterns_and_say_what_was_made_up(tmp_path: Path) -> None:
    data, bad, recorded = counted(plain_patterns()), np.zeros((SIDE, SIDE), bool), np.ones((SCAN, SCAN), bool)
    bad[15, 15], recorded[2, 3] = True, False
    data[:, :, bad] = 60000
    given = known(thickness_nm=8.0, bad_pixels=bad)
    path = write_handover(tmp_path / "out", given, PtychographyOptions(), InMemory(data, recorded))
    stored = np.load(path.parent / "patterns.npy")
    assert yaml.safe_load(path.read_text())["raw_data"]["path"] == "patterns.npy"
    assert np.isnan(stored[2, 3]).all()
    assert np.array_equal(stored[0, 0][~bad], data[0, 0][~bad].astype(np.float32))
    near = stored[0, 0][13:18, 13:18].ravel()
    assert stored[0, 0, 15, 15] == pytest.approx(np.delete(near, 12).mean(), rel=1e-3)
    assert "1 positions" in (path.parent / "README.txt").read_text()
    with pytest.raises(BadInput, match="new or empty"):
        write_handover(tmp_path / "out", given, PtychographyOptions(), InMemory(data, recorded))


def crystal(
    folder: Path, scan: int, step_a: float
) -> tuple[Given, npt.NDArray[np.uint16], npt.NDArray[np.float64], float]:
    """Strontium titanate of 20 slices by our own multislice: geometry, counts, projected phase and its pixel [Å]."""
    with np.load(folder / "reference_abtem" / "c_STO_exitwaves.npz") as file:
        slices, extent = file["slices_eVA"].astype(float), float(file["extent_A"][0])
        projected = file["total_projected_VA"].astype(float)
    energy, alpha, defocus_nm, pixels, detector = 200.0, 20.0, 10.0, slices.shape[1], 80
    pixel = extent / pixels
    specimen = column(slices, (0, 1) * 10, 1.9525, energy, (pixel, pixel))
    k = np.fft.fftfreq(pixels, pixel)
    angle = 1e3 * optics.wavelength_a(energy) * k
    wave = spectrum(angle[:, None], angle[None, :], energy, alpha, Aberrations(defocus_nm=defocus_nm))
    wave = wave / np.sqrt(np.sum(np.abs(wave) ** 2))
    at = 5.0 + np.arange(scan) * step_a
    inside = slice(pixels // 2 - detector // 2, pixels // 2 + detector // 2)
    frames = np.empty((scan, scan, detector, detector), np.uint16)
    rng = np.random.default_rng(1)
    for row, y in enumerate(at):
        ramps = np.exp(-2j * np.pi * (k[None, :, None] * y + k[None, None, :] * at[:, None, None]))
        waves = np.fft.ifft2(wave * ramps).astype(np.complex64)
        seen = np.fft.fftshift(diffraction(waves, specimen), axes=(1, 2))[:, inside, inside]
        frames[row] = rng.poisson(2e5 * seen)
    given = Given(
        beam_energy_kev=energy,
        convergence_semi_angle_mrad=alpha,
        mrad_per_pixel=1e3 * optics.wavelength_a(energy) / extent,
        scan_step_nm=(step_a / 10, step_a / 10),
        origin_px=np.array([detector / 2, detector / 2]),
        bad_pixels=np.zeros((detector, detector), bool),
        scan_rotation_deg=0.0,
        defocus_nm=defocus_nm,
        thickness_nm=3.905,
    )
    return given, frames, projected * optics.interaction_rad_per_v_a(energy), pixel


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_phaser_reconstructs_a_crystal_of_twenty_slices(tmp_path: Path, recorded_data: Path) -> None:
    step_a, scan = 0.45, 20
    given, frames, truth, pixel = crystal(recorded_data, scan, step_a)
    options = PtychographyOptions(model="multislice", slice_thickness_nm=0.3905, iterations=20)
    path = write_handover(tmp_path / "out", given, options, InMemory(frames))
    command = [python_of(BENCH_PEERS / "phaser.txt").parent / "phaser", "run", path.name]
    plain: dict[str, Any] = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(command, cwd=path.parent, env=plain, capture_output=True, text=True, timeout=1500)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    (state,) = (path.parent / "nightbeam").glob("*.h5")
    with h5py.File(state) as file:
        object_ = file["object/data"][()]
        sampling, corner = file["object/sampling"][()], file["object/corner"][()]
        first = file["scan/data"][()].reshape(-1, 2)[0]
    assert len(object_) == 10
    phase = np.angle(object_).sum(0)
    number = int((scan - 1) * step_a / sampling[0])
    begin = np.round((first - corner) / sampling).astype(int)
    found = phase[begin[0] : begin[0] + number, begin[1] : begin[1] + number]
    best = 0.0
    smooth = ndimage.gaussian_filter(truth, 0.15 / pixel, mode="wrap")
    for shift in np.ndindex(9, 9):
        places = [
            (5.0 + (corner[axis] + begin[axis] * sampling[axis] - first[axis]) + np.arange(number) * sampling[axis]
             + (shift[axis] - 4) * 0.1) / pixel
            for axis in (0, 1)
        ]  # fmt: skip
        expected = ndimage.map_coordinates(smooth, np.meshgrid(*places, indexing="ij"), order=1, mode="grid-wrap")
        best = max(best, likeness(found, expected)[0])
    # 0.93 was measured; still rising after 20 iterations.
    assert best > 0.85
