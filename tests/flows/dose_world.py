"""A film that remembers what it received, the ledger of its area, and the simulator's hidden truth beside it."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from devices.simulator.wire import read_address
from stem4d.plan import Plan
from stem4d.simulate.fluence import PIXEL_A
from storage.documents import load_model
from tasks.lab import Lab
from tests.devices.server_world import ended, folder_of
from tests.flows.night_world import INSTRUMENT, NAME, PLANS
from tests.flows.remedy_world import faulty_lab

SIDE, STEP_NM = 24, 0.4
BACK = 300.0
"""Flyback [µs]: a quarter of a row."""
AREA = "lamella-1"
REMEMBERS = f"[settings.areas.{AREA}.beam_damage]"
"""An empty table does no harm, and the dose of the area is kept."""


BAD_PIXELS = "hot_pixels = 2.0e-4\ndead_pixels = 6.0e-4"
"""A run masks them by its calibrations; without those the hot ones would count as electrons."""


def defocused(*changes: str) -> Plan:
    """A plan whose probe, 1.3 nm wide, covers several steps, so that the fluence is even within the field."""
    fixed = (f"scan.shape=[{SIDE}, {SIDE}]", f"scan.step_nm={STEP_NM}", "optics.defocus_nm=30")
    return load_model(PLANS / "demo" / "1_overview.yaml", Plan, [*fixed, *changes])


def write_film(home: Path) -> Path:
    """The instrument file of `film`, for a process of its own; gives its path."""
    path = home / "instrument.toml"
    path.write_text("\n".join([INSTRUMENT.read_text().replace(BAD_PIXELS, ""), REMEMBERS]))
    return path


@contextmanager
def film(home: Path, *truths: str) -> Iterator[Lab]:
    """A session on an instrument whose area remembers its dose."""
    with faulty_lab(home, REMEMBERS, *truths, drop=BAD_PIXELS) as opened:
        yield opened


@dataclass(frozen=True)
class Truth:
    """What the area really has received."""

    values: npt.NDArray[np.float32]
    """(y, x) [e/Å²]."""
    origin: tuple[int, int]

    @property
    def electrons(self) -> float:
        """All of them."""
        return float(self.values.sum(dtype=float)) * PIXEL_A**2

    def highest(self) -> float:
        """Where the most fell [e/Å²]: the median of the fifth of the lit places that has most, for the map's grain."""
        if not self.values.any():
            return 0.0
        lit = self.values[self.values > 0.5 * self.values.max()]
        return float(np.median(np.sort(lit)[-max(lit.size // 5, 1) :]))


def truth(home: Path, area: str = AREA) -> Truth:
    """Ask the instrument's server to end, which adds up all doses first, and read what it kept of an area."""
    address = read_address(folder_of(home, NAME))
    if address is not None:
        os.kill(address.pid, signal.SIGTERM)
        assert ended(address.pid)
    path = folder_of(home, NAME) / f"dose-{area}.npz"
    if not path.exists():
        return Truth(np.zeros((0, 0), np.float32), (0, 0))
    with np.load(path) as saved:
        top, left = saved["origin"].tolist()
        return Truth(saved["fluence_e_per_a2"], (top, left))
