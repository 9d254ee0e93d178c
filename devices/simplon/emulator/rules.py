"""What a written key moves: pure functions over the values of detector/config, and the list that PUT answers."""

from collections.abc import Mapping
from typing import Any

from devices.simplon.emulator.hardware import Hardware
from devices.simplon.emulator.keys import GATED, Key, KeyRefused
from stem4d.optics import wavelength_a

Values = Mapping[str, Any]

_DEPTH = ("bit_depth_image", "bit_depth_readout")
_TIMES = ("count_time", "countrate_correction_count_cutoff", "frame_count_time", "frame_time")
_THRESHOLDS = ("threshold/1/energy", "threshold/2/energy", "threshold_energy")
_ROI = (*_DEPTH, *_TIMES, "roi_mode", "roi_y_size", "x_pixels_in_detector", "y_pixels_in_detector", "pixel_mask")
MOVES: Mapping[str, tuple[str, ...]] = {
    "count_time": (*_DEPTH, *_TIMES),
    "frame_time": (*_DEPTH, *_TIMES),
    "incident_energy": (*_THRESHOLDS, "flatfield", "wavelength"),
    "threshold_energy": ("flatfield", "threshold/1/energy"),
    "threshold/1/energy": ("flatfield", "threshold_energy"),
    "roi_mode": (*_ROI, "flatfield"),
    "roi_y_size": (*_ROI, "flatfield"),
    "roi_bit_depth": (*_DEPTH, *_TIMES),
    "auto_summation": (*_DEPTH, "countrate_correction_count_cutoff", "frame_count_time"),
    "trigger_mode": ("nimages",),
    "pixel_mask": ("number_of_excluded_pixels",),
}
"""Keys beside the written one that have to be read again."""


def changed_by(name: str) -> list[str]:
    """The list that PUT answers for a key."""
    return sorted({name, *MOVES.get(name, ())})


def lowest(name: str, values: Values, made: Hardware) -> float | None:
    """The minimum of a key where it follows from other keys."""
    return fastest_frame_s(values, made) if name == "frame_time" else None


def fastest_frame_s(values: Values, made: Hardware) -> float:
    """Shortest frame time of the present readout [s]."""
    rows = min(values["roi_y_size"], made.y_px) if values["roi_mode"] == "lines" else made.y_px
    return max(made.fastest_frame_s(values["roi_bit_depth"], rows), 2 * made.readout_time_s)


def written(values: Values, made: Hardware, keys: Mapping[str, Key], name: str, value: Any) -> dict[str, Any]:
    """All values after a checked one is written.

    Raises
    ------
    KeyRefused
        Where other keys forbid the value.
    """
    new = {**values, name: value}
    match name:
        case "count_time":
            new["frame_time"] = max(new["frame_time"], value + made.readout_time_s)
        case "frame_time":
            new["count_time"] = min(new["count_time"], value - made.readout_time_s)
        case "incident_energy":
            new |= {"threshold_energy": value / 2, "threshold/1/energy": value / 2, "threshold/2/energy": value * 0.75}
        case "threshold_energy":
            new["threshold/1/energy"] = value
        case "threshold/1/energy":
            new["threshold_energy"] = value
        case "roi_mode" | "roi_y_size":
            new |= {key: keys[key].value for key in ("count_time", "frame_time", "pixel_mask")}
            if name == "roi_mode":
                new["roi_y_size"] = keys["roi_y_size"].value
            elif value % 2:
                raise KeyRefused(f"value not allowed: roi_y_size = {value}, has to be even")
        case "trigger_mode" if value in GATED:
            new["nimages"] = 1
        case "nimages" if value > 1 and values["trigger_mode"] in GATED:
            raise KeyRefused(f"value not allowed: nimages = {value} in trigger mode {values['trigger_mode']}, only 1")
    return derived(new, made)


def derived(values: Values, made: Hardware) -> dict[str, Any]:
    """The same values with all those worked out that follow from others; times at least what the readout allows."""
    new = dict(values)
    new["frame_time"] = max(new["frame_time"], fastest_frame_s(new, made), new["count_time"] + made.readout_time_s)
    rows, columns = made.shape(new["roi_mode"], new["roi_y_size"])
    readout = new["roi_bit_depth"]
    sums = readout == 16 and new["auto_summation"] and new["frame_time"] > made.longest_single_s()
    new |= {
        "x_pixels_in_detector": columns,
        "y_pixels_in_detector": rows,
        "bit_depth_readout": readout,
        "bit_depth_image": 32 if sums else readout,
        "frame_count_time": min(new["count_time"], made.longest_single_s()) if sums else new["count_time"],
        "wavelength": wavelength_a(new["incident_energy"] / 1000),
    }
    new["countrate_correction_count_cutoff"] = cutoff_counts(new, made)
    return new


def cutoff_counts(values: Values, made: Hardware) -> int:
    """Counts of a frame up to which the count rate correction holds, and at most what the counter takes."""
    linear = round(made.linear_rate_hz * float(values["count_time"]))
    return min(linear, largest_count(values["bit_depth_image"]))


def largest_count(bits: int) -> int:
    """Largest count of a counter; the value above it marks a masked or overflown pixel."""
    return int(2**bits - 2)


def saturation_value(values: Values) -> int:
    """Largest value of a pixel that still is a measurement."""
    if values["countrate_correction_applied"]:
        return int(values["countrate_correction_count_cutoff"])
    return largest_count(values["bit_depth_image"])


def images_of(values: Values) -> tuple[int, int]:
    """Images of one trigger, and triggers, of a series."""
    return 1 if values["trigger_mode"] in GATED else values["nimages"], values["ntrigger"]
