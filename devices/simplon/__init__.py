"""DECTRIS detectors: control over SIMPLON REST, frames over stream v2."""

from devices.simplon.instrument import open_instrument

__all__ = ["open_instrument"]
