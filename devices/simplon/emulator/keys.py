"""The keys of the five modules as data: value, type, access, limits, unit; and which keys each written one moves."""

from collections.abc import Iterable, Mapping
from math import isfinite
from typing import Any, Literal

from devices.simplon.emulator.hardware import Hardware
from stem4d.model import Strict
from stem4d.optics import wavelength_a

API_VERSION = "1.8.0"
MODULES = ("detector", "stream", "monitor", "filewriter", "system")
LARGEST_COUNT = 2_000_000_000
"""Most images and triggers of a series."""
ON_OFF = ("disabled", "enabled")
GATED = ("inte", "exte")
"""Trigger modes of one image per trigger."""
ValueType = Literal["bool", "int", "uint", "float", "string", "string[]", "uint[][]", "float[][]", "State", "datetime"]


class KeyRefused(ValueError):
    """A value that a key does not take."""


class Key(Strict):
    """One key: what GET answers of it, and what PUT is checked against."""

    value: Any
    value_type: ValueType
    access_mode: Literal["r", "rw"] = "r"
    min: float | None = None
    max: float | None = None
    unit: str = ""
    allowed_values: tuple[str | int, ...] = ()
    listed: bool = True
    """Some keys of a real detector are answered though ``keys`` does not list them."""

    def checked(self, name: str, value: Any, low: float | None = None) -> Any:
        """The value as it is stored; KeyRefused says what is wrong with it. ``low`` takes the place of the minimum."""
        if self.access_mode == "r":
            raise KeyRefused(f"{name} is read-only")
        value = _typed(name, self.value_type, value)
        low = self.min if low is None else low
        for bound, beyond, which in ((low, -1, "below the minimum"), (self.max, 1, "above the maximum")):
            if bound is not None and (value - bound) * beyond > 0:
                raise KeyRefused(f"value out of range: {name} = {value} is {which} {bound} {self.unit}".rstrip())
        if self.allowed_values and value not in self.allowed_values:
            allowed = ", ".join(str(each) for each in self.allowed_values)
            raise KeyRefused(f"value not allowed: {name} = {value!r}, allowed are {allowed}")
        return value

    def answer(self, value: Any, low: float | None = None) -> dict[str, Any]:
        """What GET says of a configuration key."""
        told: dict[str, Any] = {"value": value, "value_type": self.value_type, "access_mode": self.access_mode}
        limits = {"min": self.min if low is None else low, "max": self.max}
        told |= {limit: bound for limit, bound in limits.items() if bound is not None}
        if self.unit:
            told["unit"] = self.unit
        if self.allowed_values:
            told["allowed_values"] = list(self.allowed_values)
        return told


def _typed(name: str, kind: ValueType, value: Any) -> Any:
    match kind:
        case "bool":
            fits = isinstance(value, bool)
        case "int":
            fits = isinstance(value, int) and not isinstance(value, bool)
        case "uint":
            fits = isinstance(value, int) and not isinstance(value, bool) and value >= 0
        case "float":
            fits = isinstance(value, int | float) and not isinstance(value, bool) and isfinite(value)
            value = float(value) if fits else value
        case "uint[][]" | "float[][]":
            fits = isinstance(value, Mapping)
        case _:
            fits = isinstance(value, str)
    if not fits:
        raise KeyRefused(f"bad type: {name} takes a {kind}, not {str(value)[:80]!r}")
    return value


def _fixed(kind: ValueType, value: Any, unit: str = "", *, listed: bool = True) -> Key:
    return Key(value=value, value_type=kind, unit=unit, listed=listed)


def _number(value: float, low: float | None = None, high: float | None = None, unit: str = "") -> Key:
    return Key(value=value, value_type="float", access_mode="rw", min=low, max=high, unit=unit)


def _whole(value: int, low: int, high: int) -> Key:
    return Key(value=value, value_type="uint", access_mode="rw", min=low, max=high)


def _choice(*allowed: str) -> Key:
    """The first is the default."""
    return Key(value=allowed[0], value_type="string", access_mode="rw", allowed_values=allowed)


def _switch(on: bool) -> Key:
    return Key(value=on, value_type="bool", access_mode="rw")


def _text(value: str = "") -> Key:
    return Key(value=value, value_type="string", access_mode="rw")


def detector_config(made: Hardware) -> dict[str, Key]:
    """Keys of detector/config and their values after initialize, those that follow from others not yet worked out."""
    # A written pixel mask is a document of base64, so it is kept apart: empty stands for all good.
    axes = {
        f"{axis}_{what}": _number(0.0, -360.0, 360.0, "degree")
        for axis in ("chi", "kappa", "omega", "phi", "two_theta")
        for what in ("start", "increment")
    }
    return {
        "description": _fixed("string", made.description),
        "detector_number": _fixed("string", made.number),
        "software_version": _fixed("string", API_VERSION),
        "eiger_fw_version": _fixed("string", "release-emulated"),
        "x_pixels_in_detector": _fixed("uint", made.x_px),
        "y_pixels_in_detector": _fixed("uint", made.y_px),
        "x_pixel_size": _fixed("float", made.pixel_size_m, "m"),
        "y_pixel_size": _fixed("float", made.pixel_size_m, "m"),
        "sensor_material": _fixed("string", made.sensor_material),
        "sensor_thickness": _fixed("float", made.sensor_thickness_m, "m"),
        "detector_readout_time": _fixed("float", made.readout_time_s, "s"),
        "incident_particle_type": _fixed("string", "electron"),
        "number_of_excluded_pixels": _fixed("uint", 0),
        "bit_depth_image": _fixed("uint", 16),
        "bit_depth_readout": _fixed("uint", 16),
        "frame_count_time": _fixed("float", 1e-3, "s"),
        "countrate_correction_count_cutoff": _fixed("uint", 0),
        "wavelength": _fixed("float", wavelength_a(200.0), "angstrom", listed=False),
        "count_time": _number(1e-3, 1e-7, 3600.0, "s"),
        "frame_time": _number(1e-3 + made.readout_time_s, 1e-7, 3600.0, "s"),
        "nimages": _whole(1, 1, LARGEST_COUNT),
        "ntrigger": _whole(1, 1, LARGEST_COUNT),
        "trigger_mode": _choice("ints", "inte", "exts", "exte"),
        "trigger_start_delay": _number(0.0, 0.0, 3600.0, "s"),
        "incident_energy": _number(200e3, 30e3, 300e3, "eV"),
        "threshold_energy": _number(100e3, 2.7e3, 300e3, "eV"),
        "threshold/1/energy": _number(100e3, 2.7e3, 300e3, "eV"),
        "threshold/1/mode": _choice("enabled"),
        "threshold/2/energy": _number(150e3, 2.7e3, 300e3, "eV"),
        "threshold/2/mode": _choice("disabled"),
        "threshold/difference/mode": _choice("disabled"),
        "roi_mode": _choice(*made.roi_modes),
        "roi_y_size": _whole(made.y_px, made.lowest_rows, made.y_px),
        "roi_bit_depth": Key(value=16, value_type="uint", access_mode="rw", allowed_values=(8, 16)),
        "auto_summation": _switch(True),
        "compression": _choice("bslz4", "none"),
        "counting_mode": _choice("normal", "retrigger"),
        "countrate_correction_applied": _switch(True),
        "flatfield_correction_applied": _switch(True),
        "pixel_mask_applied": _switch(True),
        "virtual_pixel_correction_applied": _switch(False),
        "mask_to_zero": _switch(False),
        "test_image_mode": _text(),
        "fast_arm": _switch(False),
        "beam_center_x": _number(made.x_px / 2, unit="pixel"),
        "beam_center_y": _number(made.y_px / 2, unit="pixel"),
        "detector_distance": _number(1.0, 0.0, 100.0, "m"),
        **axes,
        "pixel_mask": Key(value={}, value_type="uint[][]", access_mode="rw"),
        "flatfield": _fixed("float[][]", {}),
    }


STREAM_CONFIG = {
    "mode": _choice(*ON_OFF),
    "format": _choice("legacy", "cbor"),
    "header_detail": Key(value="basic", value_type="string", access_mode="rw", allowed_values=("none", "basic", "all")),
    "header_appendix": _text(),
    "image_appendix": _text(),
}
MONITOR_CONFIG = {"mode": _choice(*ON_OFF), "buffer_size": _whole(10, 1, 1000), "discard_new": _switch(False)}
FILEWRITER_CONFIG = {
    "mode": _choice(*ON_OFF),
    "format": _choice("hdf5 nexus v2024.2", "hdf5 nexus legacy nxmx"),
    "compression_enabled": _switch(True),
    "name_pattern": _text("series_$id"),
    "nimages_per_file": _whole(1000, 0, LARGEST_COUNT),
    "image_nr_start": _whole(1, 0, LARGEST_COUNT),
}
STATUS: Mapping[str, Mapping[str, Key]] = {
    "detector": {
        "state": _fixed("State", "na"),
        "error": _fixed("string[]", [], listed=False),
        "time": _fixed("datetime", ""),
        "board_000/th0_temp": _fixed("float", 22.5, "C"),
        "board_000/th0_humidity": _fixed("float", 5.0, "%"),
        "builder/dcu_buffer_free": _fixed("float", 100.0, "%"),
        "high_voltage/state": _fixed("string", "READY"),
    },
    "stream": {
        "state": _fixed("State", "disabled"),
        "error": _fixed("string[]", [], listed=False),
        "dropped": _fixed("uint", 0),
    },
    "monitor": {"state": _fixed("State", "disabled"), "error": _fixed("string[]", []), "dropped": _fixed("uint", 0)},
    "filewriter": {
        "state": _fixed("State", "disabled"),
        "error": _fixed("string[]", []),
        "buffer_free": _fixed("uint", 1_000_000, "KB"),
    },
    "system": {"state": _fixed("State", "ready")},
}


def config_of(made: Hardware) -> dict[str, dict[str, Key]]:
    """Every configuration key of every module."""
    return {
        "detector": detector_config(made),
        "stream": dict(STREAM_CONFIG),
        "monitor": dict(MONITOR_CONFIG),
        "filewriter": dict(FILEWRITER_CONFIG),
        "system": {},
    }


def listed(keys: Mapping[str, Key]) -> Iterable[str]:
    """What ``keys`` answers."""
    return sorted(name for name, key in keys.items() if key.listed)
