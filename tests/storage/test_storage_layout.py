"""The file says in NeXus and EMD terms what our metadata say, and newer layouts are refused."""

from pathlib import Path

import h5py
import numpy as np
import pytest

from stem4d.errors import BadInput
from storage import layout
from storage.read import open_frames
from tests.storage.storage_world import spec_at, written

INSTRUMENT = "entry/measurement/instrument"


def test_nxem_names_carry_value_unit_and_sign(tmp_path: Path) -> None:
    spec = spec_at(tmp_path / "a.h5")
    written(spec)
    with h5py.File(spec.path) as file:
        for path, value, unit in (
            ("ebeam_column/electron_source/voltage", 200.0, "kV"),
            ("optics/semi_convergence_angle", 20.0, "mrad"),
            ("optics/defocus", -30.0, "nm"),  # C10 of 30 nm underfocus
            ("optics/probe_current", 58.0, "pA"),
            ("optics/camera_length", 188.6, "mm"),
            ("ebeam_column/scan_controller/dwell_time", 33.3, "us"),
        ):
            field = file[f"{INSTRUMENT}/{path}"]
            assert (field[()], field.attrs["units"]) == (value, unit)
        assert file[f"{INSTRUMENT}/detector/saturation_value"][()] == 4095
        assert file[f"{INSTRUMENT}/optics"].attrs["NX_class"] == "NXem_optical_system"


def test_axes_have_the_scan_from_zero_and_the_angles_from_the_middle(tmp_path: Path) -> None:
    spec = spec_at(tmp_path / "a.h5", (2, 3), (4, 5))
    written(spec)
    with h5py.File(spec.path) as file:
        data = file["entry/data"]
        assert list(data.attrs["axes"]) == ["scan_y", "scan_x", "det_y", "det_x"]
        np.testing.assert_allclose(data["scan_x"], [0.0, 0.5, 1.0])
        np.testing.assert_allclose(data["det_y"], np.array([-1.5, -0.5, 0.5, 1.5]) * 1.25)
        np.testing.assert_allclose(data["det_x"], np.array([-2, -1, 0, 1, 2]) * 1.25)
        assert [data[axis].attrs["units"] for axis in data.attrs["axes"]] == ["nm", "nm", "mrad", "mrad"]
        assert file.get("dm_root/datacube/data", getlink=True).path == layout.FRAMES


def test_unknown_calibration_means_pixels(tmp_path: Path) -> None:
    spec = spec_at(tmp_path / "a.h5", scan_step_nm=None, mrad_per_pixel=None, full_scale=None, metadata={})
    written(spec)
    with h5py.File(spec.path) as file:
        assert file["entry/data/scan_y"].attrs["units"] == file["entry/data/det_x"].attrs["units"] == "px"
    with open_frames(spec.path) as read:
        assert (dict(read.metadata), read.full_scale, read.kind) == ({}, None, "nightbeam")


@pytest.mark.parametrize(
    ("version", "needs", "remedy"),
    [
        (3, "0.4.0", "Install nightbeam 0.4.0 to read it"),
        (3, "<script>", "Install nightbeam newer than"),
        (0, "", "damaged"),
        ("2", "", "damaged"),
    ],
)
def test_an_unknown_layout_is_refused(tmp_path: Path, version: object, needs: str, remedy: str) -> None:
    spec = spec_at(tmp_path / "a.h5")
    written(spec)
    with h5py.File(spec.path, "r+") as file:
        file[layout.OURS].attrs.update({"format_version": version, "needs_nightbeam": needs})
    with pytest.raises(BadInput, match="format_version") as refused:
        open_frames(spec.path)
    assert remedy in refused.value.remedy


def test_the_file_is_of_the_hdf5_1_10_format(tmp_path: Path) -> None:
    spec = spec_at(tmp_path / "a.h5")
    written(spec)
    # Superblock 3 is 1.10's; HDF5 2.0's newest layouts, which 1.14 cannot read, would show in the slow test.
    assert spec.path.read_bytes()[8] == 3
