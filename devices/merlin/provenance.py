"""What a Merlin is and how it counts, as readings that are kept with the data."""

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

from devices.merlin.control import Merlin
from devices.merlin.headers import NotAHeader, parse_acquisition
from devices.protocols import Reading

VALUES = {
    "SOFTWAREVERSION": "",
    "COUNTERDEPTH": "",
    "CONTINUOUSRW": "",
    "COLOURMODE": "",
    "CHARGESUMMING": "",
    "ENABLECOUNTER1": "",
    "GAIN": "",
    "POLARITY": "",
    "OPERATINGENERGY": "keV",
    **{f"THRESHOLD{number}": "keV" for number in range(8)},
    "HVBIAS": "V",
    "TEMPERATURE": "degC",
    "FILLMODE": "",
    "FLATFIELDCORRECTION": "",
    "FLATFIELDFILE": "",
    "DEADTIMECORRECTION": "",
    "MASKINDATA": "",
    "DACFILE": "",
    "FILEENABLE": "",
    "FILEFORMAT": "",
    "ACQUISITIONTIME": "ms",
    "ACQUISITIONPERIOD": "ms",
    "TRIGGERSTART": "",
    "TRIGGERSTOP": "",
}
"""What is asked, with its unit; what the detector's software does not know is left out."""
HEADER = (
    "Chip ID",
    "Chip Type",
    "Assembly Size",
    "Chip Mode",
    "Counter Depth",
    "Gain",
    "Thresholds",
    "bpc File",
    "DAC File",
    "Gap Fill Mode",
    "Flat Field File",
    "Dead Time File",
    "Sensor Bias",
    "Sensor Polarity",
    "Temperature",
    "Humidity",
    "Medipix Clock",
    "Readout System",
    "Software Version",
)
"""What only the header of an acquisition says, or says as it was then."""


def provenance(control: Merlin, header_file: Path | None) -> tuple[Reading, ...]:
    """Everything that can be read, and what the header of the last acquisition said; a pure read.

    Raises
    ------
    DeviceFault
        The detector fails.
    """
    asked = [(name, control.known(name), unit) for name, unit in VALUES.items()]
    read_at = datetime.now(UTC)
    measured = [
        Reading(name.lower(), _value(text), unit, read_at, "measured") for name, text, unit in asked if text is not None
    ]
    return (*measured, *_of_header(header_file))


def _of_header(file: Path | None) -> list[Reading]:
    if file is None or not file.is_file():
        return []
    read_at = datetime.fromtimestamp(file.stat().st_mtime, UTC)
    try:
        values: Mapping[str, str] = parse_acquisition(file.read_bytes())
    except NotAHeader:
        return []
    return [
        Reading("header_" + re.sub(r"\W+", "_", name.lower()), values[name], "", read_at, "cached")
        for name in HEADER
        if name in values
    ]


def _value(text: str) -> float | str:
    try:
        return float(text)
    except ValueError:
        return text
