"""The values of all configuration keys, read and written as documents; whoever uses it holds the state's lock."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from devices.simplon.emulator.arrays import array_document, array_of_document
from devices.simplon.emulator.hardware import Hardware
from devices.simplon.emulator.keys import config_of
from devices.simplon.emulator.rules import changed_by, derived, lowest, written


class UnknownPath(LookupError):
    """There is no such key or command."""


class Settings:
    """Values by module and key."""

    def __init__(self, made: Hardware) -> None:
        self._made = made
        self.keys = config_of(made)
        self.values: dict[str, dict[str, Any]] = {}
        for module in self.keys:
            self.reset(module)

    def reset(self, module: str) -> None:
        """As after power-up."""
        values = {name: key.value for name, key in self.keys[module].items()}
        self.values[module] = derived(values, self._made) if module == "detector" else values

    def answer(self, module: str, name: str) -> dict[str, Any]:
        """What GET answers of a key."""
        key = self.keys[module].get(name)
        if key is None:
            raise UnknownPath(name)
        values = self.values[module]
        answer = key.answer(values[name], lowest(name, values, self._made) if module == "detector" else None)
        if module == "detector" and name in ("pixel_mask", "flatfield"):
            mask = mask_of(values)
            answer["value"] = array_document(mask if name == "pixel_mask" else flatfield_of(values))
        return answer

    def write(self, module: str, asked: Mapping[str, Any]) -> list[str]:
        """Write keys in this order, all or none; the answer are the keys that have to be read again."""
        keys, new, changed = self.keys[module], dict(self.values[module]), set[str]()
        for name, given in asked.items():
            if name not in keys:
                raise UnknownPath(name)
            if module != "detector":
                new[name] = keys[name].checked(name, given)
                changed.add(name)
                continue
            value = keys[name].checked(name, given, lowest(name, new, self._made))
            new = written(new, self._made, keys, name, value)
            changed.update(changed_by(name))
            new["number_of_excluded_pixels"] = int(np.count_nonzero(mask_of(new)))
        self.values[module] = new
        return sorted(changed)


def shape_of(config: Mapping[str, Any]) -> tuple[int, int]:
    """(det_y, det_x) of the images that a configuration gives."""
    return config["y_pixels_in_detector"], config["x_pixels_in_detector"]


def mask_of(config: Mapping[str, Any]) -> npt.NDArray[np.uint32]:
    """The pixel mask (det_y, det_x) of a configuration; anything but 0 is masked."""
    if not config["pixel_mask"]:
        return np.zeros(shape_of(config), np.uint32)
    return array_of_document("pixel_mask", config["pixel_mask"], shape_of(config)).astype(np.uint32)


def flatfield_of(config: Mapping[str, Any]) -> npt.NDArray[np.float32]:
    """The flat field (det_y, det_x) of a configuration: every pixel answers alike."""
    return np.ones(shape_of(config), np.float32)
