"""Where everything stands in a nightbeam HDF5 file, and which versions of that layout are understood."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from stem4d.errors import BadInput

FORMAT_VERSION = 2
"""2: checksums are of the chunks as stored, where the data set of checksums says so; 1: of the frames."""
NEEDS_NIGHTBEAM = "0.3.0"
"""The oldest nightbeam that reads ``FORMAT_VERSION``; written into the file for the sake of older ones."""

# ("v110", "v110") allows SWMR and is read by HDF5 1.10 and later; "latest" under HDF5 2.0 is not read by 1.14.
LIBVER = ("v110", "v110")

FRAMES = "/entry/data/data"
OURS = "/entry/nightbeam"
METADATA = f"{OURS}/metadata"
LEDGER_STATE = f"{OURS}/ledger/state"
LEDGER_CHECKSUM = f"{OURS}/ledger/crc32"
ENDED = f"{OURS}/end/how"
REASON = f"{OURS}/end/reason"
ONLINE = "/entry/online"
VIRTUAL = "virtual/"

BITSHUFFLE = 32008
"""Number under which the filter is registered with the HDF Group."""
MISSING, OK, DUPLICATE, CORRUPT = 0, 1, 2, 3
"""States of a position in the ledger. A duplicate came more than once, and the first is kept; a corrupt one could not
be unpacked, and has no frame."""
CHECKSUM_OF = "of"
"""Attribute of the checksums: "chunk" as it is stored, or "frame" as it is unpacked; the latter where it is absent."""

MAX_FRAME_BYTES = 256 * 2**20
MAX_POSITIONS = 2**26
DTYPES = ("uint8", "uint16", "uint32", "float32")


@dataclass(frozen=True)
class OnlineArray:
    """One array that the acquisition pass leaves beside the frames."""

    shape: Literal["scan", "detector"]
    dtype: str
    unit: str
    title: str


ONLINE_ARRAYS: Mapping[str, OnlineArray] = {
    "recorded": OnlineArray("scan", "bool", "", "Position was recorded"),
    "total": OnlineArray("scan", "uint64", "counts", "Counts in the pattern"),
    "com_y_px": OnlineArray("scan", "float32", "px", "Centre of mass, y"),
    "com_x_px": OnlineArray("scan", "float32", "px", "Centre of mass, x"),
    "maximum": OnlineArray("scan", "uint32", "counts", "Largest value in the pattern"),
    "saturated_px": OnlineArray("scan", "uint32", "px", "Pixels at full scale"),
    "invalid_px": OnlineArray("scan", "uint32", "px", "Invalid pixels"),
    "sum_pattern": OnlineArray("detector", "uint64", "counts", "Sum of all patterns"),
    "max_pattern": OnlineArray("detector", "uint32", "counts", "Largest value of each pixel"),
}
"""Names and types of ``stem4d.maps.RunMaps.as_arrays()``; a virtual detector is ``virtual/NAME``."""


def online_array(name: str) -> OnlineArray:
    """What is known of an online array; KeyError for a name that is none."""
    if name.startswith(VIRTUAL):
        return OnlineArray("scan", "uint64", "counts", f"Virtual detector {name.removeprefix(VIRTUAL)}")
    return ONLINE_ARRAYS[name]


@dataclass(frozen=True)
class NexusField:
    """Where NXem keeps one of our metadata, and in which unit and sign."""

    path: str
    unit: str
    factor: float = 1.0
    comment: str = ""


_INSTRUMENT = "/entry/measurement/instrument"
NEXUS_GROUPS: Mapping[str, str] = {
    "/entry/measurement": "NXem_measurement",
    _INSTRUMENT: "NXem_instrument",
    f"{_INSTRUMENT}/ebeam_column": "NXebeam_column",
    f"{_INSTRUMENT}/ebeam_column/electron_source": "NXsource",
    f"{_INSTRUMENT}/ebeam_column/scan_controller": "NXscan_controller",
    f"{_INSTRUMENT}/optics": "NXem_optical_system",
    f"{_INSTRUMENT}/detector": "NXdetector",
}
NEXUS_FIELDS: Mapping[str, NexusField] = {
    "beam_energy_kev": NexusField(f"{_INSTRUMENT}/ebeam_column/electron_source/voltage", "kV"),
    "convergence_semi_angle_mrad": NexusField(f"{_INSTRUMENT}/optics/semi_convergence_angle", "mrad"),
    # NXem's defocus is the aberration constant C10; ours is positive for underfocus, which is -C10.
    "defocus_nm": NexusField(f"{_INSTRUMENT}/optics/defocus", "nm", -1.0, "C10 = -defocus_nm; underfocus is negative"),
    "probe_current_pa": NexusField(f"{_INSTRUMENT}/optics/probe_current", "pA"),
    "camera_length_mm": NexusField(f"{_INSTRUMENT}/optics/camera_length", "mm"),
    "dwell_time_us": NexusField(f"{_INSTRUMENT}/ebeam_column/scan_controller/dwell_time", "us"),
    "flyback_us": NexusField(f"{_INSTRUMENT}/ebeam_column/scan_controller/flyback_time", "us"),
    "exposure_time_us": NexusField(f"{_INSTRUMENT}/detector/count_time", "us"),
}
SATURATION_VALUE = f"{_INSTRUMENT}/detector/saturation_value"


def require_known_version(attributes: Mapping[str, Any], name: str) -> None:
    """Raise ``BadInput`` for a file of a newer layout, naming the nightbeam that reads it."""
    found = attributes.get("format_version")
    if isinstance(found, bytes | str) or found is None or int(found) < 1:
        raise BadInput(
            field=f"{name}: format_version",
            value=found,
            limit=f"1 to {FORMAT_VERSION} is understood",
            remedy="The file is damaged or was not written by nightbeam",
        )
    if int(found) > FORMAT_VERSION:
        needs = attributes.get("needs_nightbeam", b"")
        needs = needs.decode(errors="replace") if isinstance(needs, bytes) else str(needs)
        known = needs if re.fullmatch(r"\d{1,4}(\.\d{1,4}){1,3}", needs) else f"newer than {NEEDS_NIGHTBEAM}"
        raise BadInput(
            field=f"{name}: format_version",
            value=int(found),
            limit=f"1 to {FORMAT_VERSION} is understood",
            remedy=f"Install nightbeam {known} to read it",
        )
