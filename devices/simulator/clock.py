"""The frames' clock: how far the simulated time of recorded frames has come, told from one process to another."""

import os
import struct
from pathlib import Path


class FramesClock:
    """Simulated time that frames have reached [s]: eight bytes, written by one process and read by another."""

    def __init__(self, folder: Path) -> None:
        self._descriptor = os.open(folder / "frames_clock", os.O_RDWR | os.O_CREAT, 0o644)

    def reach(self, simulated_s: float) -> None:
        """Set it; it never goes back."""
        if simulated_s > self.now_s():
            os.pwrite(self._descriptor, struct.pack("<d", simulated_s), 0)

    def now_s(self) -> float:
        """Read it; 0 before the first frame."""
        stored = os.pread(self._descriptor, 8, 0)
        return float(struct.unpack("<d", stored)[0]) if len(stored) == 8 else 0.0

    def close(self) -> None:
        """Let go of the file."""
        os.close(self._descriptor)
