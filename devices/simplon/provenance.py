"""What a SIMPLON detector is and how it counts, as readings that are kept with the data."""

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy.typing as npt

from devices.protocols import Reading
from devices.simplon.rest import Simplon, if_known

CONFIG = (
    "description",
    "detector_number",
    "software_version",
    "eiger_fw_version",
    "sensor_material",
    "sensor_thickness",
    "x_pixel_size",
    "y_pixel_size",
    "incident_energy",
    "photon_energy",
    "threshold_energy",
    "countrate_correction_applied",
    "countrate_correction_count_cutoff",
    "saturation_value",
    "flatfield_correction_applied",
    "pixel_mask_applied",
    "mask_to_zero",
    "virtual_pixel_correction_applied",
    "counting_mode",
    "auto_summation",
    "bit_depth_image",
    "bit_depth_readout",
    "compression",
    "count_time",
    "frame_time",
    "detector_readout_time",
)
_THRESHOLD = re.compile(r"threshold/(\d+|difference)/(energy|mode)")


@dataclass(frozen=True)
class Provenance:
    """Identity and settings, and which pixels the detector masks."""

    readings: tuple[Reading, ...]
    """Whatever the detector knows of the list; slashes in names are underscores."""
    pixel_mask: npt.NDArray[Any] | None
    """(det_y, det_x), 0 where a pixel counts; None where the detector does not give it."""


def provenance(rest: Simplon) -> Provenance:
    """Read everything that can be read.

    Raises
    ------
    DeviceFault
        The detector fails; keys that it does not know are left out.
    """
    return Provenance(readings(rest), if_known(rest.array, "pixel_mask"))


def readings(rest: Simplon) -> tuple[Reading, ...]:
    """The same without the pixel mask, which is as large as a frame."""
    thresholds = sorted(key for key in rest.known() if _THRESHOLD.fullmatch(key))
    found = (_reading(rest, key) for key in (*CONFIG, *thresholds))
    return tuple(reading for reading in found if reading is not None)


def _reading(rest: Simplon, key: str) -> Reading | None:
    there = if_known(rest.get, key)
    if there is None or not isinstance(there.value, str | bool | int | float):
        return None
    value = there.value if isinstance(there.value, str | bool) else float(there.value)
    return Reading(key.replace("/", "_"), value, there.unit, datetime.now(UTC), "measured")
