"""DECTRIS detectors: control over SIMPLON REST, frames over stream v2."""

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from devices.protocols import Instrument
    from stem4d.instrument import InstrumentFile


def open_instrument(file: "InstrumentFile", home: Path) -> "Instrument":
    """Open the instrument of a file; see ``instrument.open_instrument``."""
    # Late: the acquisition process receives frames, and would spend half a second on the rest of the instrument.
    from devices.simplon.instrument import open_instrument as opened

    return opened(file, home)
