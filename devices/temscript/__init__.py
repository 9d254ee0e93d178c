"""A column over temscript's remote server: optics, stage, beam blanker, valves of a Thermo Fisher or FEI microscope."""

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from devices.protocols import Instrument
    from stem4d.instrument import InstrumentFile


def open_instrument(file: "InstrumentFile", home: Path) -> "Instrument":
    """Open the instrument of a file; see ``instrument.open_instrument``."""
    # Late: a look at which drivers there are needs no HTTP.
    from devices.temscript.instrument import open_instrument as opened

    return opened(file, home)
