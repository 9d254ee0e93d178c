"""Where the emulated detector's pixels come from, and a ring of frames packed in advance so that sending is fast."""

import math
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from devices.simplon.emulator.settings import mask_of, shape_of
from devices.simplon.messages import PackedFrame
from stem4d.errors import BadInput
from storage.codec import bitshuffle_lz4
from storage.read import open_frames

Counts = npt.NDArray[np.uint32]


class PixelSource(Protocol):
    """What falls on the detector: a pattern, a recorded file, an instrument."""

    @property
    def shape(self) -> tuple[int, int]:
        """(det_y, det_x) of the whole sensor [px]."""
        ...

    @property
    def distinct(self) -> int:
        """Frames before the first one comes again."""
        ...

    def counts(self, number: int) -> Counts:
        """Electrons counted in each pixel of the whole sensor, (det_y, det_x), for ``number`` < ``distinct``."""
        ...


@dataclass(frozen=True)
class SyntheticFrames:
    """A bright disk on a faint background, with Poisson noise out of a seed."""

    shape: tuple[int, int] = (512, 512)
    seed: int = 1
    distinct: int = 16
    disk_counts: float = 8.0
    """Mean counts of a pixel of the disk."""
    background_counts: float = 0.1
    radius_fraction: float = 0.2
    """Radius of the disk over the shorter side."""

    def counts(self, number: int) -> Counts:
        """See `PixelSource`."""
        y, x = (np.arange(side) - (side - 1) / 2 for side in self.shape)
        inside = np.hypot(y[:, None], x[None, :]) <= self.radius_fraction * min(self.shape)
        mean = np.where(inside, self.disk_counts, self.background_counts)
        return np.random.default_rng([self.seed, number]).poisson(mean).astype(np.uint32)


class RecordedFrames:
    """The first frames of a recorded file, held in memory."""

    def __init__(self, path: Path | str, most: int = 4096) -> None:
        kept: list[Counts] = []
        with open_frames(path) as frames:
            if frames.dtype.kind not in "ui":
                raise BadInput(field=str(path), value=str(frames.dtype), limit="a detector counts: integers")
            for _, batch in frames.batches(2**24):
                kept += [_as_counts(path, each) for each in batch[: most - len(kept)]]
                if len(kept) == most:
                    break
        if not kept:
            raise BadInput(field=str(path), value=0, limit="has to hold a frame at least", unit="frames")
        self._kept = kept
        self.shape: tuple[int, int] = (kept[0].shape[0], kept[0].shape[1])
        self.distinct = len(kept)

    def counts(self, number: int) -> Counts:
        """See `PixelSource`."""
        return self._kept[number]


def _as_counts(path: Path | str, frame: npt.NDArray[Any]) -> Counts:
    lowest, highest = int(frame.min()), int(frame.max())
    if lowest < 0 or highest > 2**32 - 1:
        raise BadInput(field=str(path), value=f"{lowest} to {highest}", limit="counts from 0 to 2^32-1")
    return frame.astype(np.uint32)


class SeriesFrames(Protocol):
    """The frames of one series, asked for in order."""

    def frame(self, number: int, *, wraps: bool = False) -> "Packed":
        """The frame of a number in the series, packed."""
        ...

    def stray(self, number: int) -> "Packed":
        """A frame of another series, which takes none of this one's."""
        ...

    def close(self) -> None:
        """The series is over."""
        ...


class FrameSupply(Protocol):
    """Where the sender has the frames of a series from."""

    def of(self, config: Mapping[str, Any]) -> SeriesFrames:
        """The frames of a series that was armed with a configuration."""
        ...


@dataclass(frozen=True)
class Packed:
    """A frame as it is sent, and the truth of it."""

    frame: PackedFrame
    total: int
    """Sum of its pixels."""


def readout(counts: Counts, config: Mapping[str, Any], *, wraps: bool = False) -> npt.NDArray[np.unsignedinteger[Any]]:
    """What the counters show under a configuration: region of interest, depth, mask.

    A full counter shows 2^bits - 1, as a masked pixel does; one that ``wraps`` begins again at 0 after 255.
    """
    rows, columns = shape_of(config)
    if config["roi_mode"] == "merge2x2":
        counts = counts[: rows * 2, : columns * 2].reshape(rows, 2, columns, 2).sum((1, 3))
    else:
        first = (counts.shape[0] - rows) // 2
        counts = counts[first : first + rows]
    bits = config["bit_depth_image"]
    full = 2**bits - 1
    shown = counts % 256 if wraps else np.minimum(counts, full)
    if config["pixel_mask_applied"]:
        shown = np.where(mask_of(config) != 0, 0 if config["mask_to_zero"] else full, shown)
    pixels: npt.NDArray[np.unsignedinteger[Any]] = shown.astype(f"<u{bits // 8}")
    return pixels


class Packer:
    """How frames are packed under one configuration."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        self._config = config
        codec = bitshuffle_lz4() if config["compression"] == "bslz4" else None
        if codec is None and config["compression"] == "bslz4":
            raise RuntimeError("this build of hdf5plugin does not export bitshuffle; set compression to none")
        self._pack: Callable[[Any], list[bytes]] | None = codec.pack if codec else None

    def packed(self, counts: Counts, *, wraps: bool = False) -> Packed:
        """A frame of the whole sensor as it is sent."""
        pixels = readout(counts, self._config, wraps=wraps)
        algorithm = "bslz4" if self._pack else ""
        payload = self._pack(pixels[None])[0] if self._pack else pixels.tobytes()
        shape = pixels.shape[0], pixels.shape[1]
        return Packed(PackedFrame(shape, pixels.dtype, algorithm, payload), int(pixels.sum(dtype=np.uint64)))


class Ring:
    """The frames of one configuration, packed; the first is sent again after the last."""

    def __init__(self, source: PixelSource, config: Mapping[str, Any], most: int) -> None:
        self._source, self._packer = source, Packer(config)
        self._frames = [self._packed(number) for number in range(min(source.distinct, most))]

    def frame(self, number: int, *, wraps: bool = False) -> Packed:
        """The frame of a number in the series; ``wraps`` is packed anew."""
        at = number % len(self._frames)
        return self._packed(at, wraps=True) if wraps else self._frames[at]

    def stray(self, number: int) -> Packed:
        """One of the same."""
        return self.frame(number)

    def close(self) -> None:
        """Nothing is held for one series alone."""

    def _packed(self, number: int, *, wraps: bool = False) -> Packed:
        return self._packer.packed(self._source.counts(number), wraps=wraps)


class Rings:
    """Rings of the configurations used last: an arm with one of them packs nothing."""

    KEPT = 4
    DEPENDS_ON = (
        "roi_mode", "roi_y_size", "bit_depth_image", "compression", "pixel_mask_applied", "mask_to_zero", "pixel_mask",
    )  # fmt: skip

    def __init__(self, source: PixelSource, most: int = 32) -> None:
        self.source, self._most = source, most
        self._rings: OrderedDict[str, Ring] = OrderedDict()

    def of(self, config: Mapping[str, Any]) -> Ring:
        """The ring of a configuration."""
        key = repr([config[name] for name in self.DEPENDS_ON])
        if key not in self._rings:
            self._rings[key] = Ring(self.source, config, self._most)
            if len(self._rings) > self.KEPT:
                self._rings.popitem(last=False)
        self._rings.move_to_end(key)
        return self._rings[key]


def ring_length(source: PixelSource, largest_bytes: int = 2**28) -> int:
    """How many frames of a source a ring may hold, by their unpacked size at 16 bit."""
    return max(1, min(source.distinct, largest_bytes // (math.prod(source.shape) * 2)))
