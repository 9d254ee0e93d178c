"""What RosettaSciIO or HDF5 says of a file, in our vocabulary: shape, counter depth, calibration. For the child."""

import math
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from stem4d.optics import wavelength_a
from storage.foreign import NO_READER
from storage.hdf5 import Hdf5Frames, has_signature, open_hdf5

_COUNTER_DEPTHS = (1, 6, 12, 24)
_JITTER_NS = 1000
"""A gap between frames has to be longer than the others by this much to count as a line end."""


class Unreadable(Exception):
    """The file is not 4D-STEM data that RosettaSciIO reads."""


@dataclass(frozen=True)
class Found:
    """A data set: what ``storage.foreign.Header`` takes, and its frames in scan order as little-endian bytes."""

    header: dict[str, Any]
    blocks: Callable[[int, int], Iterator[bytes]]
    """Called with the bytes that a block may have, and the first position wanted: the start of a row."""


def understand(path: str) -> Found:
    """Read what the file says of itself.

    Raises
    ------
    Unreadable
        No reader for the suffix, or none that finds diffraction patterns in it.
    BadInput
        An HDF5 file is refused.
    """
    if has_signature(Path(path)):
        return _hdf5(open_hdf5(Path(path)))
    from rsciio import IO_PLUGINS

    suffix = _suffix(path)
    plugins = [plugin for plugin in IO_PLUGINS if suffix in {known.lower() for known in plugin["file_extensions"]}]
    if not plugins:
        raise Unreadable(f"{NO_READER} .{suffix} files")
    reasons: list[str] = []
    for plugin in plugins:
        try:
            signals = _read(plugin["api"], path)
            return _found(max(signals, key=lambda signal: math.prod(signal["data"].shape)), path)
        except MemoryError:
            raise
        except Exception as error:  # noqa: BLE001 - readers raise anything; every reason is told
            reasons.append(f"{plugin['name']}: {type(error).__name__}: {error}")
    raise Unreadable("; ".join(reasons)[:1000])


def _hdf5(frames: Hdf5Frames) -> Found:
    header = {
        "scan_shape": frames.scan_shape,
        "detector_shape": frames.detector_shape,
        "dtype": frames.dtype.name,
        "metadata": dict(frames.metadata),
    }
    return Found(header, lambda most_bytes, first: (batch.tobytes() for _, batch in frames.batches(most_bytes, first)))


def _read(module: str, path: str) -> list[dict[str, Any]]:
    reader: Callable[..., list[dict[str, Any]]] = import_module(module).file_reader
    # RosettaSciIO guesses a Merlin scan shape and leaves out what does not fit it; we ask for all frames in a row.
    options = {"navigation_shape": (len(_merlin_headers(path)),)} if _suffix(path) == "mib" else {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # readers warn of metadata they do not know
        try:
            return reader(path, lazy=True, **options)
        except TypeError:
            return reader(path)


def _found(signal: Mapping[str, Any], path: str) -> Found:
    data, axes = signal["data"], signal["axes"]
    facts = _facts(signal)
    scan = tuple(int(size) for size in data.shape[:-2])
    full_scale = None
    if _suffix(path) == "mib":
        headers, text = _merlin_headers(path), signal["original_metadata"].get("hdr_file") or {}
        full_scale = _merlin_full_scale(text, headers[0])
        scan = _merlin_scan(text, headers)
        left_out = len(headers) - math.prod(scan)
        data = data.reshape((len(headers), *data.shape[-2:]))[: math.prod(scan)].reshape((*scan, *data.shape[-2:]))
        facts |= {"frames_left_out": float(left_out)} if left_out else {}
    elif _suffix(path) == "blo":
        full_scale = 255
    scanned = [axis["navigate"] for axis in axes]
    if (
        scanned[-2:] != [False, False]
        or not all(scanned[:-2])
        or len(scan) not in (1, 2)
        or data.dtype.kind not in "uif"
    ):
        raise Unreadable(f"holds {data.dtype} {data.shape}, not diffraction patterns of a scan")
    header = {
        "scan_shape": scan if len(scan) == 2 else (1, *scan),
        "detector_shape": [int(size) for size in data.shape[-2:]],
        "dtype": data.dtype.newbyteorder("=").name,
        "full_scale": full_scale,
        "metadata": facts | _scales(axes, facts.get("beam_energy_kev")),
    }
    return Found(header, partial(_blocks, data, np.dtype(header["dtype"])))


def _blocks(data: Any, dtype: np.dtype[np.generic], most_bytes: int, first: int) -> Iterator[bytes]:
    """Frames of a numpy or dask array (..., det_y, det_x)."""
    data = data if data.ndim == 4 else data[None]
    frame = math.prod(data.shape[2:]) * dtype.itemsize
    columns = min(data.shape[1], max(1, most_bytes // frame))
    rows = max(1, most_bytes // (frame * data.shape[1]))
    for y in range(first // data.shape[1], data.shape[0], rows):
        for x in range(0, data.shape[1], columns):
            part = data[y : y + rows, x : x + columns]
            # One thread: dask's pool would hold several blocks at once.
            whole = part.compute(scheduler="synchronous") if hasattr(part, "compute") else part
            yield np.ascontiguousarray(whole, dtype.newbyteorder("<")).tobytes()


def _suffix(path: str) -> str:
    return Path(path).suffix.lstrip(".").lower()


def _merlin_headers(path: str) -> Sequence[bytes]:
    """The header that stands before each frame of a ``.mib`` file."""
    from rsciio.quantumdetector import load_mib_data

    headers: Sequence[bytes] = load_mib_data(path, lazy=True, return_headers=True)[1]
    return headers


def _merlin_full_scale(text: Mapping[str, str], header: bytes) -> int | None:
    """Largest value by the counter's depth, which stands in the ``.hdr`` and in newer frame headers."""
    depth = (text.get("Counter Depth (number)") or _depth_in_frame(header)).strip()
    return (1 << int(depth)) - 1 if depth.isdecimal() and int(depth) in _COUNTER_DEPTHS else None


def _merlin_scan(text: Mapping[str, str], headers: Sequence[bytes]) -> tuple[int, int]:
    """(scan_y, scan_x) from ScanX, from the frames a trigger, from longer gaps at line ends; else all in one row."""
    from rsciio.quantumdetector import parse_timestamps

    frames = len(headers)
    for name in ("ScanX", "Frames per Trigger (Number)"):
        columns = text.get(name, "").strip()
        if columns.isdecimal() and 1 < int(columns) <= frames:
            return frames // int(columns), int(columns)
    stamps = [stamp.rstrip("Z") for stamp in parse_timestamps(headers)]
    gaps = np.diff(np.array(stamps, "datetime64[ns]")).astype(np.int64)
    longer = np.flatnonzero(gaps > gaps.mean()) if len(gaps) else gaps
    columns_shown = int(longer[0]) + 1 if len(longer) else frames
    at_line_end = np.arange(1, len(gaps) + 1) % columns_shown == 0
    ends, others = gaps[at_line_end], gaps[~at_line_end]
    if not len(ends) or not len(others) or ends.min() - others.max() <= max(_JITTER_NS, np.ptp(others)):
        return 1, frames
    return frames // columns_shown, columns_shown


def _depth_in_frame(header: bytes) -> str:
    """The field after the exposure in ns, which only newer (MQ1A) frame headers have."""
    fields = header.decode(errors="replace").split(",")
    return next((after for field, after in pairwise(fields) if field.endswith("ns")), "")


def _facts(signal: Mapping[str, Any]) -> dict[str, float]:
    """Beam energy, convergence angle, camera length and times, from where HyperSpy's convention keeps them."""
    tem = dict(_at(signal["metadata"], "Acquisition_instrument.TEM") or {})
    for source, (target, convert) in signal.get("mapping", {}).items():
        value = _at(signal["original_metadata"], source)
        if value is not None and target.startswith("Acquisition_instrument.TEM."):
            tem[target.rsplit(".", 1)[1]] = value if convert is None else convert(value)
    seconds = _at(signal["metadata"], "Acquisition_instrument.dwell_time")
    found = {
        "beam_energy_kev": tem.get("beam_energy"),
        "convergence_semi_angle_mrad": tem.get("convergence_angle"),
        "exposure_time_us": None if seconds is None else float(seconds) * 1e6,
    }
    return {name: float(value) for name, value in found.items() if value is not None and _usable(value)}


def _scales(axes: Sequence[Mapping[str, Any]], beam_energy_kev: float | None) -> dict[str, float]:
    scales: dict[str, float] = {}
    step = [_in(axis, {"nm": 1.0, "Å": 0.1, "um": 1e3, "µm": 1e3, "μm": 1e3}) for axis in axes[:-2]]
    per_nm = 1e2 * wavelength_a(beam_energy_kev) if beam_energy_kev else math.nan
    angle_units = {"mrad": 1.0, "rad": 1e3, "1/nm": per_nm, "1 / nm": per_nm, "1/Å": 10 * per_nm, "1 / Å": 10 * per_nm}
    angle = [_in(axis, angle_units) for axis in axes[-2:]]
    for name, values in (("scan_step_nm", step), ("mrad_per_pixel", angle)):
        # One figure stands for both axes, so it is given only where they agree.
        if len(values) == 2 and all(map(_usable, values)) and math.isclose(*values, rel_tol=1e-3):
            scales[name] = values[0]
    return scales


def _in(axis: Mapping[str, Any], units: Mapping[str, float]) -> float:
    return abs(float(axis.get("scale", math.nan))) * units.get(str(axis.get("units")), math.nan)


def _usable(value: object) -> bool:
    return isinstance(value, int | float | np.number) and math.isfinite(float(value)) and float(value) > 0


def _at(tree: Any, dotted: str) -> Any:
    for name in dotted.split("."):
        if not isinstance(tree, Mapping) or name not in tree:
            return None
        tree = tree[name]
    return tree
