"""Candidate changes: one parameter set so that a rule is met, rounded to the safe side, within what the column has."""

from collections.abc import Iterator
from math import ceil, copysign, floor, isfinite, log10, sqrt

from stem4d import optics
from stem4d.rules.registry import Context
from stem4d.verdict import Change

DIGITS = 3
"""Significant figures of a proposed value."""


def rounded(value: float, *, up: bool) -> float:
    """A positive value to three figures, never on the unsafe side."""
    scale = 10.0 ** (DIGITS - 1 - floor(log10(value)))
    steps = value * scale
    # A value that has three figures already must not be moved by the last bit of its logarithm.
    nearest = round(steps)
    whole = nearest if abs(steps - nearest) < 1e-9 * steps else ceil(steps) if up else floor(steps)
    return float(f"{whole / scale:.{DIGITS}g}")


def _change(field: str, value: float, unit: str, *, up: bool, needs_person: bool = False) -> Iterator[Change]:
    if isfinite(value) and value > 0:
        yield Change(field=field, value=rounded(value, up=up), unit=unit, needs_person=needs_person)


def camera_length(ctx: Context, factor: float) -> Iterator[Change]:
    """Camera length times a factor, or the next one beyond it that the instrument has."""
    wanted = ctx.plan.optics.camera_length_mm * factor
    up = factor > 1
    if ctx.instrument is None:
        yield from _change("optics.camera_length_mm", wanted, "mm", up=up)
        return
    known = ctx.instrument.camera_lengths_mm
    beyond = [length for length in known if (length >= wanted if up else length <= wanted)]
    if beyond:
        value = min(beyond) if up else max(beyond)
        yield Change(field="optics.camera_length_mm", value=value, unit="mm")


def convergence(ctx: Context, alpha_mrad: float) -> Iterator[Change]:
    """Another convergence angle, at least or at most this: a person's work."""
    up = alpha_mrad > ctx.plan.optics.convergence_semi_angle_mrad
    field = "optics.convergence_semi_angle_mrad"
    if ctx.instrument is None:
        yield from _change(field, alpha_mrad, "mrad", up=up, needs_person=True)
        return
    known = [aperture.convergence_semi_angle_mrad for aperture in ctx.instrument.apertures]
    beyond = [alpha for alpha in known if (alpha >= alpha_mrad if up else alpha <= alpha_mrad)]
    if beyond:
        yield Change(field=field, value=min(beyond) if up else max(beyond), unit="mrad", needs_person=True)


def dwell(ctx: Context, factor: float) -> Iterator[Change]:
    """Dwell time times a factor."""
    yield from _change("exposure.dwell_time_us", ctx.plan.exposure.dwell_time_us * factor, "us", up=factor > 1)


def current(ctx: Context, factor: float) -> Iterator[Change]:
    """Probe current times a factor."""
    yield from _change("optics.probe_current_pa", ctx.plan.optics.probe_current_pa * factor, "pA", up=factor > 1)


def electrons(ctx: Context, factor: float) -> Iterator[Change]:
    """Fewer electrons by a lower current, then by a shorter dwell; more by a longer dwell, then by a higher current."""
    first, second = (current, dwell) if factor < 1 else (dwell, current)
    yield from first(ctx, factor)
    yield from second(ctx, factor)


def step(ctx: Context, step_nm: float) -> Iterator[Change]:
    """Another scan step over the same field."""
    yield from _change("scan.step_nm", step_nm, "nm", up=step_nm > ctx.plan.scan.step_nm)


def positions(axis: int, count: float) -> Iterator[Change]:
    """More positions along one axis (0 slow, 1 fast)."""
    yield Change(field=f"scan.shape[{axis}]", value=float(ceil(count * (1 - 1e-12))), unit="positions")


def defocus_for_patch(ctx: Context, diameter_a: float) -> Iterator[Change]:
    """The defocus, on the present side of focus, that illuminates a patch of this diameter [Å]."""
    column = ctx.plan.optics
    alpha = column.convergence_semi_angle_mrad * 1e-3
    diffraction = 2 * optics.rayleigh_radius_a(column.beam_energy_kev, column.convergence_semi_angle_mrad)
    if diameter_a <= diffraction:
        return
    blur = column.spherical_aberration_mm * 1e7 * alpha**3
    half = sqrt(diameter_a**2 - diffraction**2) / 2
    side = copysign(1.0, alpha * column.defocus_nm * 10 - blur)
    value = (blur + side * half) / (alpha * 10)
    if value == 0:
        return
    wider = diameter_a > ctx.predicted.probe_diameter_a
    # Growing the patch moves away from the blur's own focus, which need not be away from zero defocus.
    up = wider == (side * value > 0)
    yield Change(field="optics.defocus_nm", value=copysign(rounded(abs(value), up=up), value), unit="nm")


def in_focus(ctx: Context) -> Iterator[Change]:
    """No defocus at all."""
    if ctx.plan.optics.defocus_nm != 0:
        yield Change(field="optics.defocus_nm", value=0.0, unit="nm")


def scaled_defocus(ctx: Context, factor: float) -> Iterator[Change]:
    """The defocus times a factor below one, towards focus."""
    value = ctx.plan.optics.defocus_nm * factor
    if value != 0:
        yield Change(field="optics.defocus_nm", value=copysign(rounded(abs(value), up=False), value), unit="nm")
