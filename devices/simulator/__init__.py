"""The simulated instrument: a server process with a hidden truth, which calibration has to find, and its clients."""

from devices.simulator.remote import open_instrument

__all__ = ["open_instrument"]
