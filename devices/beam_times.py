"""For how long the beam was on, exposure by exposure, as a column's log has it: the witness of an owner that died."""

from dataclasses import dataclass
from datetime import datetime
from math import inf
from pathlib import Path

from pydantic import ValidationError

from devices.column_log import ColumnLog, Entry
from devices.protocols import ColumnSetting, ScanRequest


@dataclass(frozen=True)
class Lit:
    """The beam of one exposure."""

    seconds: float
    """At most, by the instrument's clock and by the wall's; infinite where the log does not have its end."""
    column: ColumnSetting | None
    """What the column was set to when it began; None where the log does not say."""
    raster: ScanRequest | None
    """What was to be scanned."""


@dataclass(frozen=True)
class Witness:
    """What a log tells."""

    owners: frozenset[int]
    """Fencing tokens of the owners whose sessions it tells of from their beginning."""
    lit: dict[str, Lit]
    """By the exposure's public name; an exposure of one of these owners that is not here was never lit."""


def witness(folder: Path) -> Witness:
    """Read the log of an instrument's folder; of one that is not there nothing is known.

    Raises
    ------
    BadInput
        For a log that cannot be read.
    """
    owners: set[int] = set()
    lit: dict[str, Lit] = {}
    on: dict[str, Entry] = {}
    column, raster = None, None
    for entry in ColumnLog(folder).entries():
        event = entry["event"]
        if event == "owner" and isinstance(entry.get("owner_token"), int):
            # Not of the other entries: a log that was begun anew in a session does not tell of all of it.
            owners.add(entry["owner_token"])
        elif event == "column":
            column = _setting(entry)
        elif event == "raster":
            raster = _request(entry)
        elif event == "unblank":
            name = str(entry.get("exposure", ""))
            on.setdefault(name, entry)
            lit[name] = Lit(inf, column, raster)
        elif event in ("blank", "valves"):
            for name, began in on.items():
                lit[name] = Lit(_between_s(began, entry), lit[name].column, lit[name].raster)
            on.clear()
    return Witness(frozenset(owners), lit)


def _between_s(first: Entry, last: Entry) -> float:
    """Time between two entries [s]: the instrument's clock stands still while its server is dead, a beam may not."""
    by_its_clock = float(last["simulated_s"]) - float(first["simulated_s"])
    try:
        by_the_wall = (datetime.fromisoformat(last["wall"]) - datetime.fromisoformat(first["wall"])).total_seconds()
    except (KeyError, TypeError, ValueError):
        return inf
    return max(by_its_clock, by_the_wall, 0.0)


def _setting(entry: Entry) -> ColumnSetting | None:
    try:
        return ColumnSetting.model_validate(entry.get("setting"), strict=False)
    except ValidationError:
        return None


def _request(entry: Entry) -> ScanRequest | None:
    try:
        return ScanRequest.model_validate(entry.get("request"), strict=False)
    except ValidationError:
        return None
