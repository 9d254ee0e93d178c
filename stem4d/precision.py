"""What counting statistics leave of a plan: expected precision, and the size of its frames once compressed."""

from math import log2, pi, sqrt

from stem4d import dose, optics
from stem4d.plan import Plan, Strain

BRAGG_SHARE = 0.02
"""Part of the electrons in each Bragg disk that is tracked (habit)."""
BRAGG_DISKS = 8
"""Disks tracked in each pattern (habit)."""
SCATTERED_SHARE = 0.02
"""Part of the electrons beside the direct disk (habit, thin specimens)."""
CODEC_LOSS = 1.25
"""Bytes of bitshuffle and LZ4 over the bits that carry counts; fitted to simulated frames of 1e3 to 1e5 electrons."""
CHUNK_BYTES = 250
"""Bytes a frame costs whatever it holds: index, block headers, maps; measured."""


def com_noise_mrad(plan: Plan, electrons_per_pattern: float) -> float:
    """Shot noise of the centre of mass of one pattern per axis [mrad]."""
    return dose.centre_of_mass_noise_mrad(plan.optics.convergence_semi_angle_mrad, electrons_per_pattern)


def strain_noise(plan: Plan, wanted: Strain, electrons_per_pattern: float) -> float:
    """Shot noise of the strain at one position, with the assumed number and brightness of disks."""
    wavelength = optics.wavelength_a(plan.optics.beam_energy_kev)
    reflection_px = wavelength / wanted.reflection_d_a * 1e3 / plan.mrad_per_pixel
    per_disk = electrons_per_pattern * BRAGG_SHARE
    return dose.strain_noise(plan.disk_radius_px, reflection_px, per_disk, BRAGG_DISKS)


def compressed_frame_bytes(plan: Plan, electrons_per_pattern: float) -> float:
    """Estimate of a compressed frame's size [bytes], good to a factor of two.

    Bit planes that Poisson counts fill, log2(1 + n + 2 sqrt(n)) for a mean of n, in the disk and outside it: planes
    that are noise do not compress, planes that are empty vanish.
    """
    pixels = plan.detector.shape[0] * plan.detector.shape[1]
    inside = min(pi * plan.disk_radius_px**2, pixels - 1.0)
    outside = pixels - inside
    bits = inside * _planes(electrons_per_pattern * (1 - SCATTERED_SHARE) / inside)
    bits += outside * _planes(electrons_per_pattern * SCATTERED_SHARE / outside)
    return CODEC_LOSS * bits / 8 + CHUNK_BYTES


def _planes(mean: float) -> float:
    return log2(1 + mean + 2 * sqrt(mean))
