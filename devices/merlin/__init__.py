"""Quantum Detectors Merlin (Medipix3): control and frames over TCP."""

from devices.merlin.instrument import open_instrument

__all__ = ["open_instrument"]
