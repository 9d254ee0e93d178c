"""One armed series: its names, the settings it was armed with, and how far it has come."""

import secrets
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from devices.simplon.emulator.rules import Values

_CROCKFORD = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"


def unique_id(now: datetime) -> str:
    """A ULID: 48 bits of milliseconds and 80 of chance in 26 letters."""
    number = (int(now.timestamp() * 1000) << 80) | secrets.randbits(80)
    return "".join(_CROCKFORD[(number >> shift) & 31] for shift in range(125, -1, -5))


@dataclass
class Series:
    """Counts are guarded by the state's lock; what is said at arm stays."""

    series_id: int
    unique_id: str
    armed: datetime
    config: Values
    """Of the detector."""
    stream: Values
    """Of the stream."""
    images_per_trigger: int
    images: int
    """Images of the whole series; a cancel makes them fewer."""
    released: int = 0
    """Images that triggers so far have asked for."""
    exposed: int = 0
    stopped: Literal["", "disarm", "abort"] = ""
