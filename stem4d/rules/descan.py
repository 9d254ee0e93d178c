"""How far the disk may move over a scan, by analysis (rule 21): for the check of a plan and for that of its data."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import inf

from stem4d.plan import Analysis, CentreOfMass, Strain, TiltCorrected
from stem4d.rules.limits import LIMITS, Limit

LEAST_ROOM = 0.05
"""A mask whose edge lies on the disk's edge still bears a movement of this part of the disk's radius (habit)."""


@dataclass(frozen=True)
class Movement:
    """What decides how much movement is borne; None where it is not known."""

    radius_px: float | None
    """Of the bright-field disk."""
    mrad_per_pixel: float | None = None
    wavelength_a: float | None = None
    defocus_nm: float | None = None
    edges_px: Sequence[float] = ()
    """Edges of the virtual detectors, from the disk's centre."""


@dataclass(frozen=True)
class Bearable:
    """Largest movement that an analysis bears, peak to peak: ``limit`` in multiples of ``of_px``."""

    limit: Limit
    of_px: float
    why: str


def bearable(
    kind: str,
    asked: Analysis | None,
    known: Movement,
    *,
    stated_px: float | None = None,
    limits: Mapping[str, Limit] = LIMITS,
) -> Bearable | None:
    """What an analysis bears; None where that hangs on a disk that is not known.

    Parameters
    ----------
    kind : str
        Kind of analysis.
    asked : Analysis, optional
        What the plan asks of it; None for data without a plan.
    known : Movement
        Disk, angles and optics, as planned or as measured.
    stated_px : float, optional
        The limit that a plan's quality policy states, for every analysis [px].
    limits : mapping of str to Limit
        The limits to take.
    """

    def limit(variant: str) -> Limit:
        return limits[f"descan_residual/{variant}"]

    if stated_px is not None:
        return Bearable(limit("stated"), stated_px, "stated in the plan's quality policy")
    delta = known.mrad_per_pixel
    if isinstance(asked, CentreOfMass) and asked.smallest_deflection_mrad is not None and delta is not None:
        found = limit("com")
        return Bearable(
            found, asked.smallest_deflection_mrad / delta, f"{found.wanted:g} of the smallest deflection wanted"
        )
    if isinstance(asked, Strain) and asked.origin == "fixed" and delta is not None and known.wavelength_a is not None:
        found, reflection_px = limit("fixed"), known.wavelength_a / asked.reflection_d_a * 1e3 / delta
        why = f"{found.wanted:g} of the target strain at the reflection, the origin being fixed"
        return Bearable(found, asked.target_strain * reflection_px, why)
    if isinstance(asked, TiltCorrected) and known.radius_px is not None:
        # A tilt image moves by this much from one pixel of the disk to the next: that is what movement mixes.
        blur_a = (delta or 0.0) * 1e-3 * abs(known.defocus_nm or 0.0) * 10
        pixels = max(1.0, asked.target_d_a / blur_a if blur_a > 0 else 1.0)
        return Bearable(
            limit("tcbf"), min(pixels, 2 * known.radius_px), "tilts mixed by less than half the target period"
        )
    if kind in ("strain", "orientation", "virtual"):
        return _by_disk(kind, known, limit("virtual" if kind == "virtual" else "strain"))
    found = limit("ptychography")
    return Bearable(found, 1.0, f"{found.wanted:g} px, unless the movement is modelled or mapped and removed")


def _by_disk(kind: str, known: Movement, limit: Limit) -> Bearable | None:
    radius = known.radius_px
    if radius is None:
        return None
    if kind != "virtual":
        why = f"{limit.wanted:g} of the disk's radius, the origin being found in each pattern"
        return Bearable(limit, radius, why)
    room = min((abs(edge - radius) for edge in known.edges_px), default=inf)
    room = max(min(room, radius), LEAST_ROOM * radius)
    # Peak to peak: the disk's edge moves by half of it to either side.
    return Bearable(limit, max(2 * room, 1.0), "the disk's edge must not cross the virtual detector's")
