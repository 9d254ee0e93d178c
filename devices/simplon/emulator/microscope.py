"""The emulated detector beside a simulated microscope: what its own scan lights is what is counted, frame by frame."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np

from devices.beside import detector_of
from devices.simplon.emulator.frames import Counts, Packed, Packer
from devices.simplon.emulator.hardware import Hardware
from devices.simplon.instrument import SimplonSettings
from devices.simulator.onlooker import exposure_under_way
from stem4d.errors import BadInput, DeviceFault
from stem4d.instrument import InstrumentFile
from storage.documents import validate

DRIVER, BESIDE = "simplon", "simulator"
"""The driver of a file that an emulated detector can stand for, and the one whose column can light it."""


class Microscope:
    """A simulated instrument, whose scan lights the frames of a series; takes the part of `Rings`.

    It is asked anew for every series, at its trigger: it may come and go as it likes. Where its scan does not run by
    then, the detector counts nothing.

    Parameters
    ----------
    folder : Path
        ``home/instruments/NAME`` of the simulated instrument.
    shape : tuple of int
        (det_y, det_x) of the detector [px].
    say : callable
        Told in a line what each series gets.
    """

    def __init__(self, folder: Path, shape: tuple[int, int], say: Callable[[str], None]) -> None:
        self.folder, self.shape, self.say = folder, shape, say

    def of(self, config: Mapping[str, Any]) -> "LitFrames":
        """The frames of a series; the microscope is asked when the first is exposed."""
        return LitFrames(self, config)


class LitFrames:
    """Frames of one series, taken from the microscope one after the other."""

    def __init__(self, microscope: Microscope, config: Mapping[str, Any]) -> None:
        self._microscope, self._packer = microscope, Packer(config)
        self._open = ExitStack()
        self._coming: Iterator[tuple[int, Counts]] | None = None
        self._next: tuple[int, Counts] | None = None
        self._dark = np.zeros(microscope.shape, np.uint32)

    def frame(self, number: int, *, wraps: bool = False) -> Packed:
        """The frame at a scan position; dark where the scan gives none."""
        if self._coming is None:
            self._coming = self._begin()
        while self._next is None or self._next[0] < number:
            self._next = next(self._coming, None)
            if self._next is None:
                return self._packer.packed(self._dark)
        at, counts = self._next
        return self._packer.packed(counts if at == number else self._dark, wraps=wraps)

    def stray(self, number: int) -> Packed:
        """Dark: it is of no scan."""
        return self._packer.packed(self._dark)

    def close(self) -> None:
        """Let go of the microscope."""
        self._open.close()

    def _begin(self) -> Iterator[tuple[int, Counts]]:
        folder, shape = self._microscope.folder, self._microscope.shape
        source = exposure_under_way(folder)
        if source is None:
            self._microscope.say(f"the scan of {folder.name} does not run ({folder}): this series is dark")
            return iter(())
        if source.detector_shape != shape:
            there, here = (f"{rows} x {columns}" for rows, columns in (source.detector_shape, shape))
            raise DeviceFault(f"{folder.name} lights a detector of {there} pixels (y, x); this one has {here}")
        self._microscope.say(f"run {source.run} of {folder.name}: {source.frames} frames")
        frames = self._open.enter_context(source.open())
        return (
            (batch.first + index, pixels.astype(np.uint32))
            for batch in frames.batches()
            for index, pixels in enumerate(batch.frames)
        )


def mounted(file: InstrumentFile, home: Path, say: Callable[[str], None]) -> tuple[Microscope, Hardware]:
    """The detector of an instrument file whose column is a simulated one.

    Parameters
    ----------
    file : InstrumentFile
        With the driver ``simplon``.
    home : Path
        Where the simulated instrument has its folder: the NIGHTBEAM_HOME of those who use it.
    say : callable
        As of `Microscope`.

    Returns
    -------
    tuple of Microscope and Hardware
        What lights the detector, and what it is: array, pitch and rates of the file's facts.

    Raises
    ------
    BadInput
        Where the file is of another driver, or its column is no simulated one.
    """
    if file.driver != DRIVER:
        raise BadInput(field="driver", value=file.driver, limit=f"has to be {DRIVER} for an emulated detector")
    settings = validate(file.settings, SimplonSettings, "settings")
    if settings.column.driver != BESIDE or not settings.column.detector_too:
        raise BadInput(
            field="settings.column",
            value=settings.column.driver,
            limit=f"has to be {{driver = '{BESIDE}', detector_too = true}}: nothing else lights an emulated detector",
        )
    facts = detector_of(file, settings.detector)
    rows, columns = facts.shape
    made = Hardware(
        description=f"NIGHTBEAM EMULATED {facts.name}",
        y_px=rows,
        x_px=columns,
        pixel_size_m=facts.pixel_pitch_um * 1e-6,
        rate_16_bit_hz=facts.max_frame_rate_hz,
        linear_rate_hz=facts.max_count_rate_per_px_hz,
    )
    return Microscope(home.absolute() / "instruments" / file.name, facts.shape, say), made
