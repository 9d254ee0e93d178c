"""Facts of a pixel detector: its array, counter, rates and what they mean for saturation."""

from pydantic import Field

from stem4d.model import Count, Name, NonNegative, Positive, Range, Strict


class DepthRate(Strict):
    """Highest frame rate at one counter depth."""

    bit_depth: Count
    max_frame_rate_hz: Positive


class RoiRate(Strict):
    """Highest frame rate while no more than this is read out."""

    shape: tuple[Count, Count]
    """Largest frame, after merging (y, x) [px]."""
    merged: Count = 1
    """Pixels merged along each axis."""
    bit_depth: Count | None = None
    """At this counter depth; None for every one."""
    max_frame_rate_hz: Positive


class DetectorFacts(Strict):
    """What a detector is, as its instrument file states it.

    ``verified`` is false where a figure comes from memory or a brochure; a verdict that hangs on it says so.
    """

    name: Name
    shape: tuple[Count, Count]
    pixel_pitch_um: Positive
    bit_depths: tuple[Count, ...]
    max_frame_rate_hz: Positive
    depth_rates: tuple[DepthRate, ...] = ()
    """Depths that are slower than ``max_frame_rate_hz``."""
    roi_rates: tuple[RoiRate, ...] = ()
    """Smaller frames that are faster."""
    max_count_rate_per_px_hz: Positive
    """Count rate per pixel at which 10 % is lost [1/s]."""
    max_total_count_rate_hz: Positive | None = None
    """Events that the whole detector hands on, of an event-driven one [1/s]; others have no such limit."""
    damage_count_rate_per_px_hz: Positive | None = None
    dead_time_us: NonNegative = 0.0
    """Time between frames in which nothing is counted [µs]."""
    beam_energies_kev: Range | None = None
    """High tensions that the sensor and its threshold are meant for; not known where absent."""
    threshold_kev: Positive | None = None
    """Energy above which an electron counts, as the detector is set [keV]; not known where absent."""
    noise_e_per_px: NonNegative | None = None
    """Noise of a pixel and frame in electrons, of an integrating detector; a counting one has none."""
    wraps_at_bits: Count | None = None
    """Counter depth that wraps past its full scale without a sign; None where none does."""
    verified: bool = False
    source: str = Field(default="", max_length=200)

    @property
    def integrates(self) -> bool:
        """Whether it adds up charge on a dark level instead of counting electrons one by one."""
        return self.noise_e_per_px is not None

    def frame_rate_hz(self, bit_depth: int, shape: tuple[int, int] | None = None, merged: int = 1) -> float:
        """Highest frame rate at a counter depth [Hz]; of the whole array, or of frames of this shape and merging."""
        whole = next(
            (each.max_frame_rate_hz for each in self.depth_rates if each.bit_depth == bit_depth), self.max_frame_rate_hz
        )
        if shape is None:
            return whole
        smaller = (
            each.max_frame_rate_hz
            for each in self.roi_rates
            if each.bit_depth in (None, bit_depth)
            and each.merged == merged
            and all(asked <= most for asked, most in zip(shape, each.shape, strict=True))
        )
        return max(whole, *smaller, 0.0)


def full_scale(bit_depth: int) -> int:
    """Largest value a counter of this depth holds: 1, 63, 4095, 65535 for 1, 6, 12, 16 bit."""
    return (1 << bit_depth) - 1


def container_bytes(bit_depth: int) -> int:
    """Bytes per pixel of the unsigned integer that holds a counter of this depth."""
    return 1 if bit_depth <= 8 else 2 if bit_depth <= 16 else 4
