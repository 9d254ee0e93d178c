"""Detectors that instrument files may name instead of describing: plausible figures, to be held against the device.

``verified`` is false for every one whose rates or depths come from memory: no data sheet was at hand. What a device
reads back is authoritative.
"""

from collections.abc import Mapping
from difflib import get_close_matches

from stem4d.detector import DepthRate, DetectorFacts, RoiRate

_LIST = (
    DetectorFacts(
        name="quadro",
        shape=(512, 512),
        pixel_pitch_um=75.0,
        bit_depths=(8, 16, 32),
        max_frame_rate_hz=4500.0,
        depth_rates=(
            DepthRate(bit_depth=16, max_frame_rate_hz=2250.0),
            DepthRate(bit_depth=32, max_frame_rate_hz=2250.0),
        ),
        max_count_rate_per_px_hz=1e7,
        dead_time_us=0.1,
        wraps_at_bits=8,
        source="array, pitch, 8 bit rate and dead time from client code; the rest from memory",
    ),
    DetectorFacts(
        name="ela",
        shape=(514, 1030),
        pixel_pitch_um=75.0,
        bit_depths=(8, 16, 32),
        max_frame_rate_hz=4500.0,
        depth_rates=(
            DepthRate(bit_depth=16, max_frame_rate_hz=2250.0),
            DepthRate(bit_depth=32, max_frame_rate_hz=2250.0),
        ),
        max_count_rate_per_px_hz=1e7,
        dead_time_us=0.1,
        wraps_at_bits=8,
        source="energies from the maker; the rest from memory",
    ),
    DetectorFacts(
        name="singla",
        shape=(1062, 1028),
        pixel_pitch_um=75.0,
        bit_depths=(16, 32),
        max_frame_rate_hz=2250.0,
        max_count_rate_per_px_hz=1e7,
        dead_time_us=0.1,
        source="array and pitch from reader code; rates from memory",
    ),
    DetectorFacts(
        name="arina",
        shape=(192, 192),
        pixel_pitch_um=100.0,
        bit_depths=(8, 16),
        max_frame_rate_hz=30100.0,
        roi_rates=(RoiRate(shape=(96, 96), merged=2, max_frame_rate_hz=120000.0),),
        max_count_rate_per_px_hz=1e8,
        dead_time_us=0.1,
        wraps_at_bits=8,
        source="array, 120 kHz of merged pixels from client code; pitch, depths, other rates from memory",
    ),
    DetectorFacts(
        name="empad",
        shape=(128, 128),
        pixel_pitch_um=150.0,
        bit_depths=(24,),
        max_frame_rate_hz=1100.0,
        max_count_rate_per_px_hz=6e8,
        noise_e_per_px=0.05,
        source="Tate et al., Microsc. Microanal. 22 (2016); pitch, noise and current from memory",
    ),
    DetectorFacts(
        name="empad-g2",
        shape=(128, 128),
        pixel_pitch_um=150.0,
        bit_depths=(24,),
        max_frame_rate_hz=10000.0,
        max_count_rate_per_px_hz=6e8,
        noise_e_per_px=0.05,
        source="Philipp et al., Microsc. Microanal. 28 (2022); pitch, noise and current from memory",
    ),
    DetectorFacts(
        name="merlin-256",
        shape=(256, 256),
        pixel_pitch_um=55.0,
        bit_depths=(1, 6, 12, 24),
        max_frame_rate_hz=18000.0,
        depth_rates=(
            DepthRate(bit_depth=6, max_frame_rate_hz=3200.0),
            DepthRate(bit_depth=12, max_frame_rate_hz=1200.0),
            DepthRate(bit_depth=24, max_frame_rate_hz=600.0),
        ),
        max_count_rate_per_px_hz=1e6,
        source="array, pitch, counters and 24 bit readout from the maker's page; other rates from memory",
    ),
    DetectorFacts(
        name="merlin-512",
        shape=(512, 512),
        pixel_pitch_um=55.0,
        bit_depths=(1, 6, 12, 24),
        max_frame_rate_hz=18000.0,
        depth_rates=(
            DepthRate(bit_depth=6, max_frame_rate_hz=3200.0),
            DepthRate(bit_depth=12, max_frame_rate_hz=1200.0),
            DepthRate(bit_depth=24, max_frame_rate_hz=600.0),
        ),
        max_count_rate_per_px_hz=1e6,
        source="array, pitch, counters and 24 bit readout from the maker's page; other rates from memory",
    ),
    DetectorFacts(
        name="4d-camera",
        shape=(576, 576),
        pixel_pitch_um=10.0,
        bit_depths=(16,),
        max_frame_rate_hz=87000.0,
        max_count_rate_per_px_hz=8700.0,
        source="Ercius et al., Microsc. Microanal. 30 (2024); pitch from memory; 0.1 e a pixel and frame",
    ),
    DetectorFacts(
        name="timepix3",
        shape=(256, 256),
        pixel_pitch_um=55.0,
        bit_depths=(16,),
        max_frame_rate_hz=1e6,
        max_count_rate_per_px_hz=625e3,
        max_total_count_rate_hz=40e6,
        source="rates of one chip from the maker; events are cut into dwells, 1 us from memory",
    ),
    DetectorFacts(
        name="timepix3-quad",
        shape=(512, 512),
        pixel_pitch_um=55.0,
        bit_depths=(16,),
        max_frame_rate_hz=1e6,
        max_count_rate_per_px_hz=625e3,
        max_total_count_rate_hz=120e6,
        source="rates of four chips from the maker; events are cut into dwells, 1 us from memory",
    ),
    DetectorFacts(
        name="k3",
        shape=(4092, 5760),
        pixel_pitch_um=5.0,
        bit_depths=(16,),
        max_frame_rate_hz=1500.0,
        max_count_rate_per_px_hz=40.0,
        source="from memory alone",
    ),
)

CATALOGUE: Mapping[str, DetectorFacts] = {each.name: each for each in _LIST}
"""Detectors by name."""


def closest(name: str) -> tuple[str, ...]:
    """Names of the catalogue that a wrong one may have meant, nearest first."""
    return tuple(get_close_matches(name.lower(), CATALOGUE, n=3, cutoff=0.4)) or tuple(sorted(CATALOGUE))
