"""Finds instrument drivers: entry points of the group ``nightbeam.devices``, ours and other people's."""

from dataclasses import dataclass
from difflib import SequenceMatcher
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path

from devices.protocols import Instrument
from stem4d.errors import BadInput, DeviceFault
from stem4d.instrument import InstrumentFile

GROUP = "nightbeam.devices"


@dataclass(frozen=True)
class Driver:
    """A driver as it was found."""

    name: str
    target: str
    """``module:function``; the function takes an `InstrumentFile` and the home folder, and returns an `Instrument`."""
    distribution: str
    broken: str
    """Why it cannot be used; empty where it can."""


def drivers() -> tuple[Driver, ...]:
    """Every driver installed, by name; each is imported to see whether it can be."""
    return tuple(
        Driver(point.name, point.value, _distribution(point), _why_broken(point))
        for point in sorted(entry_points(group=GROUP), key=lambda point: (point.name, point.value))
    )


def driver_of(file: InstrumentFile) -> EntryPoint:
    """The driver that a file names, not yet loaded: asked before anything is written or started.

    Raises
    ------
    BadInput
        No driver of that name, or several.
    """
    found = entry_points(group=GROUP)
    points = [point for point in found if point.name == file.driver]
    if not points:
        names = sorted({point.name for point in found}, key=lambda name: -_likeness(name, file.driver))
        raise BadInput(
            field="driver",
            value=file.driver,
            limit=f"known drivers are {', '.join(names)}" if names else "no driver is installed",
            remedy="" if names else "Install nightbeam itself (make .venv): its drivers are found by its entry points",
        )
    if len(points) > 1:
        offers = " and ".join(sorted(f"{point.value} of {_distribution(point)}" for point in points))
        raise BadInput(
            field="driver", value=file.driver, limit=f"stands for {offers}", remedy="Uninstall all but one of them"
        )
    return points[0]


def open_instrument(file: InstrumentFile, home: Path) -> Instrument:
    """Open the instrument of a file with its driver.

    Raises
    ------
    BadInput
        No driver of that name, or several.
    DeviceFault
        The driver cannot be imported, or what it opened is no instrument.
    """
    driver = driver_of(file)
    if reason := _why_broken(driver):
        raise DeviceFault(f"the driver {file.driver} ({driver.value}) cannot be used: {reason}")
    instrument = driver.load()(file, home)
    if not isinstance(instrument, Instrument):
        raise DeviceFault(f"the driver {file.driver} opened a {type(instrument).__name__}, which is no instrument")
    return instrument


def release_of(driver: str) -> str:
    """Distribution and version of a driver by its name; what several offer is told, too, and empty is unknown."""
    return " and ".join(sorted(_distribution(point) for point in entry_points(group=GROUP) if point.name == driver))


def _why_broken(point: EntryPoint) -> str:
    try:
        loaded = point.load()
    except (Exception, SystemExit) as error:  # noqa: BLE001 - other people's drivers may raise anything when imported
        return f"{type(error).__name__}: {error}"
    return "" if callable(loaded) else f"{point.value} is not a function"


def _distribution(point: EntryPoint) -> str:
    return f"{point.dist.name} {point.dist.version}" if point.dist else "unknown distribution"


def _likeness(name: str, asked: str) -> float:
    return SequenceMatcher(None, name.lower(), asked.lower()).ratio()
