"""The dose that every area has received, exposure by exposure, kept beside the log for later sessions and servers.

Dose follows from the log of the beam, not from who reads frames: an exposure that nobody reads damages as much, and
one that is read twice shows the same damage twice.
"""

import os
import zlib
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from threading import Lock, Thread
from typing import TYPE_CHECKING
from zipfile import BadZipFile

import numpy as np
import numpy.typing as npt

from stem4d.errors import DeviceFault, NightbeamError

if TYPE_CHECKING:
    from devices.simulator.scene import Scene
    from stem4d.simulate.fluence import Fluence

Lit = Callable[[npt.NDArray[np.floating]], npt.NDArray[np.bool_]]
"""From the times of frames [s] to whether they came with the beam on."""


class Doses:
    """Fluence maps of the areas that suffer. Threads: every method may be called by any of them, at any time."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lock = Lock()
        self._queue: list[tuple[int, Scene, float, Lit]] = []
        self._now: dict[str, Fluence] = {}
        self._before: dict[int, Fluence] = {}

    def ended(self, run: int, scene: "Scene", start_s: float, lit: Lit) -> None:
        """Note that an exposure is over; its dose is worked out by the next `settle`."""
        self._queue.append((run, scene, start_s, lit))

    def settle_soon(self) -> None:
        """`settle` in a thread of its own; whoever asks next hears of what goes wrong."""
        Thread(target=self._settle_quietly, daemon=True, name="dose").start()

    def _settle_quietly(self) -> None:
        with suppress(NightbeamError):
            self.settle()

    def settle(self) -> None:
        """Add up the doses of exposures that are over, and save them."""
        with self._lock:
            self._settle()

    def before(self, run: int, scene: "Scene") -> "Fluence":
        """What an area had received before an exposure that has started or is over."""
        with self._lock:
            self._settle()
            return self._before.setdefault(run, self._known(scene.position))

    def _settle(self) -> None:
        if not self._queue:
            return  # without the import, which a server that ends at once would wait for
        # Imported here: see `devices.simulator.parts.SimulatedDetector.source`.
        from devices.simulator.scene import dose_after_all, times_s

        while self._queue:
            run, scene, start_s, lit = self._queue[0]
            frames = np.arange(scene.frames)
            first = self._before.setdefault(run, self._known(scene.position))
            # Only the newest run has a source.
            self._before = {run: first}
            after = dose_after_all(scene, first, frames[lit(start_s + times_s(scene, frames))], start_s)
            self._now[scene.position] = after
            self._save(scene.position, after)
            self._queue.pop(0)

    def _known(self, area: str) -> "Fluence":
        from stem4d.simulate.fluence import Fluence, untouched

        if area not in self._now:
            path = self._path(area)
            if not path.exists():
                return untouched()
            try:
                with path.open("rb") as file, np.load(file) as saved:
                    self._now[area] = Fluence(*_checked(saved["fluence_e_per_a2"], saved["origin"]))
            except (OSError, ValueError, TypeError, KeyError, EOFError, BadZipFile, zlib.error) as error:
                raise DeviceFault(
                    f"the dose of {area} cannot be read from {path} ({error}). "
                    "Restore the file, or remove it: the area then counts as never exposed"
                ) from None
        return self._now[area]

    def _save(self, area: str, fluence: "Fluence") -> None:
        path = self._path(area)
        part = path.with_suffix(".part")
        try:
            with part.open("wb") as file:
                np.savez_compressed(file, fluence_e_per_a2=fluence.values, origin=np.array(fluence.origin))
            os.replace(part, path)
        except OSError as error:
            part.unlink(missing_ok=True)
            raise DeviceFault(f"the dose of {area} cannot be written to {path} ({error.strerror}). Make room") from None

    def _path(self, area: str) -> Path:
        return self._folder / f"dose-{area}.npz"


def _checked(
    fluence_e_per_a2: npt.NDArray[np.generic], origin: npt.NDArray[np.generic]
) -> tuple[npt.NDArray[np.float32], tuple[int, int]]:
    """A saved map as it has to be: finite figures from 0 on in two dimensions, at a place of two whole numbers."""
    if fluence_e_per_a2.ndim != 2 or fluence_e_per_a2.dtype.kind != "f":
        raise ValueError(f"a map of {fluence_e_per_a2.dtype} in {fluence_e_per_a2.ndim} dimensions, not of floats in 2")
    if origin.shape != (2,) or origin.dtype.kind not in "iu":
        raise ValueError("its origin is not two whole numbers")
    values = fluence_e_per_a2.astype(np.float32)
    if not (np.isfinite(values) & (values >= 0)).all():
        raise ValueError("fluences that are negative or no numbers")
    top, left = origin.tolist()
    return values, (top, left)
