"""The most that an exposure whose end nobody wrote can have given its area, by the column's own log."""

from dataclasses import dataclass
from math import isfinite

from db.open_intents import OpenIntent
from devices.beam_times import Lit, Witness
from stem4d.dose import electrons, local_fluence_e_per_a2
from stem4d.optics import defocused_probe_diameter_a


@dataclass(frozen=True)
class Bound:
    """What the ledger charges."""

    fluence_e_per_a2: float
    electrons: float | None
    """At most, within the raster; None where the log does not say enough for it."""
    origin: str
    """Where the figure is from, in words."""


def bound(intent: OpenIntent, told: Witness | None) -> Bound:
    """An upper bound of an exposure's fluence where it is highest, never more than was booked.

    Parameters
    ----------
    intent : OpenIntent
        Its booking.
    told : Witness or None
        What the column's log says; None where it cannot be read.

    Notes
    -----
    What a beam gives in a time t anywhere is at most I t over the smaller of step² and probe area: of a time of one
    dwell or more that is what was booked, since the first position has all of its own dose by then. So the bound is
    lower only of a beam that was never on, or for less than a dwell. At the end of its raster the probe parks outside
    the field of itself: a beam that was on for longer gave the rest of it to no area.
    """
    booked = intent.fluence_e_per_a2
    lit = told.lit.get(intent.name) if told else None
    if told is None:
        return Bound(booked, None, "as booked: the column's log cannot be read")
    if lit is None and intent.owner_token not in told.owners:
        return Bound(booked, None, "as booked: the column's log does not tell of the session")
    if lit is None:
        return Bound(0.0, 0.0, "by the column's log the beam was never let through")
    if not isfinite(lit.seconds):
        return Bound(booked, _electrons(booked, lit), "as booked: the column's log has no end of the beam")
    part = 1.0
    if lit.raster is not None:
        part = min(1.0, lit.seconds / (lit.raster.dwell_time_us * 1e-6))
    lasted = f"by the column's log the beam was on for {lit.seconds:.3g} s at most"
    how = lasted if part < 1 else f"as booked: {lasted}, a dwell or more"
    return Bound(booked * part, _electrons(booked, lit), how)


def _electrons(booked_e_per_a2: float, lit: Lit) -> float | None:
    """What the beam can have carried into the raster, with as much more current as was booked for."""
    if lit.column is None or lit.raster is None:
        return None
    told, scan = lit.column.optics, lit.raster
    diameter_a = defocused_probe_diameter_a(
        told.beam_energy_kev, told.convergence_semi_angle_mrad, told.defocus_nm, told.spherical_aberration_mm
    )
    local = local_fluence_e_per_a2(told.probe_current_pa, scan.dwell_time_us, scan.step_nm, diameter_a)
    ratio = max(1.0, booked_e_per_a2 / local)
    return electrons(told.probe_current_pa, min(lit.seconds, scan.duration_s) * 1e6) * ratio
