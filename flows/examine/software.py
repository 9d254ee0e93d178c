"""Looks at what is installed: versions that work together, modules that are ours, drivers that load."""

import importlib.util
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

from flows.examine.line import Line
from storage.settings import Settings

OURS = ("stem4d", "storage", "devices", "db", "tasks", "flows", "web")


def versions(_settings: Settings) -> Iterator[Line]:
    """Versions that are known to work together, and what else is there."""
    fix = "Install with the constraints file that comes with nightbeam"
    for package, good in (("prefect", "3.8."), ("sqlalchemy", "2.0.")):
        found = metadata.version(package)
        yield Line(f"{package} version", found.startswith(good), found, f"{good}x is known to work. {fix}")
    minor = int(metadata.version("fastapi").split(".")[1])
    yield Line("fastapi version", minor < 151, metadata.version("fastapi"), f"0.151 and newer break Prefect 3.8. {fix}")
    extra = importlib.util.find_spec("rsciio") is not None
    yield Line(
        "foreign formats",
        extra,
        "RosettaSciIO is installed" if extra else "RosettaSciIO is missing",
        "Only nightbeam's own files and plain HDF5 can be read; pip install 'nightbeam[formats]'",
    )


def modules(_settings: Settings) -> Iterator[Line]:
    """Whether the modules of our names are ours."""
    home = Path(__file__).resolve().parents[2]
    for name in OURS:
        spec = importlib.util.find_spec(name)
        found = Path(spec.origin).resolve() if spec and spec.origin else None
        ours = found is not None and found.is_relative_to(home)
        yield Line(f"module {name}", ours, str(found), "Another package of that name shadows ours; remove it")


def drivers_known(_settings: Settings) -> Iterator[Line]:
    """Every driver that is installed, and whether it can be loaded."""
    from devices.registry import drivers

    for driver in drivers():
        yield Line(
            f"driver {driver.name}",
            not driver.broken,
            driver.broken or f"{driver.target} of {driver.distribution}",
            "Reinstall or remove its package",
        )
