"""Creates the HDF5 file with everything in it but the data: NeXus tree, ledger, online maps, EMD view.

All objects exist before the first frame because a SWMR file takes no new ones, and reopening it to add some would make
it unreadable if the process died in that moment (the file is then marked open for ordinary writing).
"""

from typing import Literal
from uuid import uuid4

import h5py
import hdf5plugin
import numpy as np

from stem4d.errors import BadInput
from storage import layout
from storage.spec import Fact, FileSpec

REASON_BYTES = 400
_LEDGER_CHUNK = 4096
_MAP_CHUNK_ITEMS = 2**17


def create(spec: FileSpec, checksum_of: Literal["chunk", "frame"]) -> h5py.File:
    """Create ``spec.partial`` with the whole tree, fill it with what is known, and leave it open in SWMR mode.

    ``checksum_of`` says what the writer takes checksums of.

    Raises
    ------
    BadInput
        The folder is missing or does not take a file.
    """
    try:
        file = h5py.File(spec.partial, "x", libver=layout.LIBVER)
    except OSError as error:
        raise BadInput(
            field="path",
            value=str(spec.partial),
            limit=f"cannot be created: {error.strerror or error}",
            remedy="Choose a folder on this machine that you may write to",
        ) from error
    try:
        file.attrs.update({"NX_class": "NXroot", "default": "entry"})
        entry = _group(file, "/entry", "NXentry", default="data")
        entry["title"] = spec.title or spec.path.stem
        _frames(file, spec)
        _nexus(file, spec)
        _ours(file, spec, checksum_of)
        _online(file, spec)
        _emd_view(file, spec)
        file.swmr_mode = True
    except BaseException:
        file.close()
        spec.partial.unlink()
        raise
    return file


def _group(file: h5py.File, path: str, nx_class: str, **attributes: object) -> h5py.Group:
    group = file.require_group(path)
    group.attrs["NX_class"] = nx_class
    group.attrs.update(attributes)
    return group


def _frames(file: h5py.File, spec: FileSpec) -> None:
    # Group and dataset both carry the interpretation: HyperSpy reads one, silx the other.
    data = _group(file, "/entry/data", "NXdata", signal="data", interpretation="image")
    axes = ["scan_y", "scan_x", "det_y", "det_x"]
    data.attrs["axes"] = axes
    step, angle = spec.scan_step_nm, spec.mrad_per_pixel
    for index, (axis, size) in enumerate(zip(axes, spec.scan_shape + spec.detector_shape, strict=True)):
        pixels = np.arange(size, dtype=np.float64)
        if index < 2:
            values, unit = (pixels, "px") if step is None else (pixels * step, "nm")
        else:
            pixels -= (size - 1) / 2
            values, unit = (pixels, "px") if angle is None else (pixels * angle, "mrad")
        data[axis] = values
        data[axis].attrs.update({"units": unit, "long_name": f"{axis} [{unit}]"})
        data.attrs[f"{axis}_indices"] = index
    frames = file.create_dataset(
        layout.FRAMES,
        spec.scan_shape + spec.detector_shape,
        spec.dtype,
        chunks=(1, 1, *spec.detector_shape),
        fillvalue=0,
        compression=hdf5plugin.Bitshuffle(cname="lz4"),
    )
    frames.attrs.update({"units": "counts", "interpretation": "image", "long_name": "Diffraction patterns [counts]"})


def _nexus(file: h5py.File, spec: FileSpec) -> None:
    for path, nx_class in layout.NEXUS_GROUPS.items():
        _group(file, path, nx_class)
    for name, field in layout.NEXUS_FIELDS.items():
        value = spec.metadata.get(name)
        if isinstance(value, int | float):
            file[field.path] = value * field.factor
            file[field.path].attrs["units"] = field.unit
            if field.comment:
                file[field.path].attrs["comment"] = field.comment
    if spec.full_scale is not None:
        file[layout.SATURATION_VALUE] = spec.full_scale


def _ours(file: h5py.File, spec: FileSpec, checksum_of: str) -> None:
    ours = _group(file, layout.OURS, "NXcollection")
    ours.attrs["format_version"] = layout.FORMAT_VERSION
    _set_fact(ours.attrs, "needs_nightbeam", layout.NEEDS_NIGHTBEAM)
    calibration = {"scan_step_nm": spec.scan_step_nm, "mrad_per_pixel": spec.mrad_per_pixel}
    known = {name: value for name, value in calibration.items() if value is not None}
    metadata = _group(file, layout.METADATA, "NXcollection")
    for name, value in {**spec.metadata, **known}.items():
        _set_fact(metadata.attrs, name, value)
    chunk = (min(spec.positions, _LEDGER_CHUNK),)
    file.create_dataset(layout.LEDGER_STATE, (spec.positions,), "u1", chunks=chunk, fillvalue=layout.MISSING)
    checksums = file.create_dataset(layout.LEDGER_CHECKSUM, (spec.positions,), "u4", chunks=chunk, fillvalue=0)
    _set_fact(checksums.attrs, layout.CHECKSUM_OF, checksum_of)
    for name, size in ((layout.ENDED, 16), (layout.REASON, REASON_BYTES)):
        file.create_dataset(name, data=np.zeros(1, f"S{size}"), chunks=(1,))


def _set_fact(attributes: h5py.AttributeManager, name: str, value: Fact) -> None:
    items = value if isinstance(value, list) else [value]
    texts = [item.encode() for item in items if isinstance(item, str)]
    if not texts:
        attributes[name] = np.zeros(0) if value == [] else value
        return
    # Texts of fixed length: those of variable length lie in a heap that makes HDF5 loop for ever if it is damaged.
    longest = max(1, *map(len, texts))
    stored = np.array(texts if isinstance(value, list) else texts[0], f"S{longest}")
    attributes.create(name, stored, dtype=h5py.string_dtype("utf-8", longest))


def _online(file: h5py.File, spec: FileSpec) -> None:
    _group(file, layout.ONLINE, "NXcollection")
    for name in [*layout.ONLINE_ARRAYS, *(layout.VIRTUAL + detector for detector in spec.virtual_detectors)]:
        kind = layout.online_array(name)
        shape, axes = (
            (spec.scan_shape, ["scan_y", "scan_x"])
            if kind.shape == "scan"
            else (spec.detector_shape, ["det_y", "det_x"])
        )
        group = _group(file, f"{layout.ONLINE}/{name}", "NXdata", signal="data", axes=axes, title=kind.title)
        for axis in axes:
            group[axis] = h5py.SoftLink(f"/entry/data/{axis}")
        rows = max(1, min(shape[0], _MAP_CHUNK_ITEMS // shape[1]))
        dtype = "uint8" if kind.dtype == "bool" else kind.dtype
        data = group.create_dataset("data", shape, dtype, chunks=(rows, shape[1]))
        data.attrs.update({"units": kind.unit, "long_name": kind.title, "interpretation": "image"})


def _emd_view(file: h5py.File, spec: FileSpec) -> None:
    """The same frames as an EMD 1.0 tree, for py4DSTEM; its slow scan axis is called Rx."""
    file.attrs.update({"emd_group_type": "file", "version_major": 1, "version_minor": 0, "UUID": str(uuid4())})
    file.attrs.update({"authoring_program": "nightbeam", "authoring_user": ""})
    file.create_group("dm_root").attrs.update({"emd_group_type": "root", "python_class": "Root"})
    cube = file.create_group("dm_root/datacube")
    cube.attrs.update({"emd_group_type": "array", "python_class": "DataCube"})
    # Soft, not hard: LiberTEM would otherwise take this path for the data set itself.
    cube["data"] = h5py.SoftLink(layout.FRAMES)
    scan = (1.0, "pixels") if spec.scan_step_nm is None else (spec.scan_step_nm, "nm")
    detector = (1.0, "pixels") if spec.mrad_per_pixel is None else (spec.mrad_per_pixel, "mrad")
    for index, (axis, (size, unit)) in enumerate(
        zip(("Rx", "Ry", "Qx", "Qy"), (scan, scan, detector, detector), strict=True)
    ):
        cube[f"dim{index}"] = np.array([0.0, size])
        cube[f"dim{index}"].attrs.update({"name": axis, "units": unit})
    bundle = file.create_group("dm_root/metadatabundle")
    bundle.attrs["emd_group_type"] = "metadatabundle"
    calibration = bundle.create_group("calibration")
    calibration.attrs.update({"emd_group_type": "metadata", "python_class": "Calibration"})
    for name, value, kind in (
        ("R_pixel_size", scan[0], "number"),
        ("R_pixel_units", scan[1], "string"),
        ("Q_pixel_size", detector[0], "number"),
        ("Q_pixel_units", detector[1], "string"),
        ("QR_flip", False, "bool"),
        ("_root_treepath", "", "string"),
    ):
        calibration[name] = value
        calibration[name].attrs["type"] = kind
    targets = calibration.create_group("_target_paths")
    targets.attrs.update({"type": "list_of_strings", "length": 1})
    targets["0"] = "/datacube"
