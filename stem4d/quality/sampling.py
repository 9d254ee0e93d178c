"""Overlap of the probes and sampling, from calibrated step, defocus and angles instead of the planned ones (12, 13)."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from math import sqrt

from stem4d import optics
from stem4d.plan import Plan
from stem4d.quality.grade import DOUBT_SIGMAS, PASS_SIGMAS, result
from stem4d.quality.regions import IN_WORDS, Subject, Wanted
from stem4d.rules.limits import LIMITS, Limit
from stem4d.rules.registry import Calibrated
from stem4d.verdict import QualityResult, Verdict, worst

STEP_TOLD = 0.02
"""Relative error of a step that nobody calibrated: magnifications are named to a few per cent (habit)."""
DEFOCUS_TOLD = 0.1
"""Relative error of a defocus that nobody calibrated (habit)."""
ANGLE_TOLD = 0.02
"""Relative error of an angle per pixel or convergence angle that nobody calibrated (`ANGLE_TOLERANCE`)."""


@dataclass(frozen=True)
class Probe:
    """What overlap and sampling follow from."""

    energy_kev: float
    step_nm: Calibrated
    defocus_nm: Calibrated
    alpha_mrad: Calibrated
    mrad_per_pixel: Calibrated
    spherical_aberration_mm: float = 0.0

    @property
    def diameter_a(self) -> float:
        """Illuminated patch [Å]."""
        return optics.defocused_probe_diameter_a(
            self.energy_kev, self.alpha_mrad.value, self.defocus_nm.value, self.spherical_aberration_mm
        )

    @property
    def overlap_percent(self) -> float:
        """Linear overlap of neighbouring probes [%]; negative where they lie apart."""
        return 100 * optics.linear_overlap(10 * self.step_nm.value, self.diameter_a)

    @property
    def window_over_probe(self) -> float:
        """Real-space window λ/δ over the probe's diameter."""
        return optics.window_a(self.energy_kev, self.mrad_per_pixel.value) / self.diameter_a

    @property
    def probe_over_step(self) -> float:
        """Diameter of the patch in steps."""
        return self.diameter_a / (10 * self.step_nm.value)


def check_sampling(subject: Subject, calibrations: Mapping[str, Calibrated] | None = None) -> tuple[QualityResult, ...]:
    """Judge ``sampling.overlap`` and ``sampling.window`` of ptychography, ``sampling.step`` of tilted images.

    Where a plan is known, only what came out worse than the plan asked for is an alarm: the rest its check has told.

    Parameters
    ----------
    subject : Subject
        What is wanted and known; the convergence angle is that of the disk in the data, where it was found.
    calibrations : mapping of str to Calibrated, optional
        Calibrated figures by the plan rules' names.
    """
    wanted = [one for one in subject.wanted if one.kind in ("ptychography", "tcbf")]
    if not wanted:
        return ()
    found = probe_of(subject, calibrations or {})
    if isinstance(found, str):
        text = f"Overlap and sampling are not known: nobody said {found}."
        # Tilted images can be had without it; a reconstruction is a matter of the overlap.
        needing = [one for one in wanted if one.kind == "ptychography"]
        return tuple(result("sampling.overlap", one.name, Verdict.NOT_MEASURABLE, text, unit="%") for one in needing)
    planned = planned_probe(subject.plan) if subject.plan is not None else None
    return tuple(one for each in wanted for one in _judge(found, planned, each))


def probe_of(subject: Subject, calibrations: Mapping[str, Calibrated]) -> Probe | str:
    """The probe by what is calibrated, measured or said; or what is missing, in words."""
    known, plan = subject.known, subject.plan
    steps = [calibrations[name] for name in ("scan_step_y", "scan_step_x") if name in calibrations]
    step = max(steps, key=lambda one: one.value) if steps else _told(known.scan_step_nm, STEP_TOLD)
    told = plan.optics.defocus_nm if plan is not None else known.defocus_nm
    defocus = calibrations.get("defocus") or _told(told, DEFOCUS_TOLD)
    delta = calibrations.get("mrad_per_pixel") or _told(subject.mrad_per_pixel, ANGLE_TOLD)
    alpha = calibrations.get("convergence_semi_angle")
    if alpha is None and subject.fit.ok and delta is not None:
        value = subject.fit.radius_px * delta.value
        parts = (subject.fit.radius_uncertainty_px / subject.fit.radius_px, delta.uncertainty / delta.value)
        alpha = Calibrated(value=value, uncertainty=value * sqrt(sum(part**2 for part in parts)))
    alpha = alpha or _told(known.convergence_semi_angle_mrad, ANGLE_TOLD)
    energy = known.beam_energy_kev
    named = {
        "scan_step_nm": step,
        "defocus_nm": defocus,
        "mrad_per_pixel": delta,
        "convergence_semi_angle_mrad": alpha,
        "beam_energy_kev": energy,
    }
    missing = [name for name, value in named.items() if value is None]
    if step is None or defocus is None or delta is None or alpha is None or energy is None:
        return ", ".join(IN_WORDS[name] for name in missing)
    spherical = plan.optics.spherical_aberration_mm if plan is not None else 0.0
    return Probe(energy, step, defocus, alpha, delta, spherical)


def planned_probe(plan: Plan) -> Probe:
    """The probe as the plan asked for it, to its own errors."""
    told = plan.optics
    return Probe(
        told.beam_energy_kev,
        _exactly(plan.scan.step_nm),
        _exactly(told.defocus_nm),
        _exactly(told.convergence_semi_angle_mrad),
        _exactly(plan.mrad_per_pixel),
        told.spherical_aberration_mm,
    )


def _exactly(value: float) -> Calibrated:
    return Calibrated(value=value)


def _told(value: float | None, relative: float) -> Calibrated | None:
    return None if value is None else Calibrated(value=value, uncertainty=relative * abs(value))


def _judge(probe: Probe, planned: Probe | None, wanted: Wanted) -> Iterator[QualityResult]:
    text = f"The probe is {probe.diameter_a:.3g} Å wide, the step {10 * probe.step_nm.value:.3g} Å"
    if wanted.kind == "tcbf":
        # The rule states s <= D/3; as "at least" the patch has to be so many steps wide.
        patch = LIMITS["step_within_patch"]
        limit = Limit("at least", patch.source, soft=1 / patch.wanted)
        yield _at_least("sampling.step", wanted, probe, planned, lambda one: one.probe_over_step, limit, "steps", text)
        return
    overlap = LIMITS["probe_overlap"]
    yield _at_least("sampling.overlap", wanted, probe, planned, lambda one: one.overlap_percent, overlap, "%", text)
    text = f"The angle per pixel leaves a window of {probe.window_over_probe:.2f} probe diameters"
    window = LIMITS["window"]
    yield _at_least("sampling.window", wanted, probe, planned, lambda one: one.window_over_probe, window, "", text)


def _at_least(
    metric: str,
    wanted: Wanted,
    probe: Probe,
    planned: Probe | None,
    figure: Callable[[Probe], float],
    limit: Limit,
    unit: str,
    text: str,
) -> QualityResult:
    value, error = figure(probe), _error(probe, figure)
    verdict, decided = _graded(value, error, limit)
    text += f": {value:.3g} ± {error:.2g} {unit}".rstrip() + f", at least {decided:g} are wanted."
    if planned is not None and verdict in (Verdict.WARN, Verdict.FAIL):
        asked, _ = _graded(figure(planned), 0.0, limit)
        if worst((asked, verdict)) is asked:
            verdict = Verdict.PASS
            text += f" The plan asked for {figure(planned):.3g}, which its check has told."
        else:
            text += f" The plan asked for {figure(planned):.3g}: step, defocus or angles came out otherwise."
    if planned is None and verdict in (Verdict.WARN, Verdict.FAIL):
        # A scan in focus is no fault of a file that nobody took for this.
        verdict = Verdict.NOT_MEASURABLE
        text += f" That is too little for {wanted.name}, and nobody said that it was wanted."
    return result(metric, wanted.name, verdict, text, value=value, limit=decided, unit=unit, uncertainty=error)


def _graded(value: float, error: float, limit: Limit) -> tuple[Verdict, float]:
    doubt = DOUBT_SIGMAS * error
    if limit.hard is not None and value + doubt < limit.hard:
        return Verdict.FAIL, limit.hard
    if value + doubt < limit.wanted:
        return Verdict.WARN, limit.wanted
    if value - PASS_SIGMAS * error >= limit.wanted:
        return Verdict.PASS, limit.wanted
    return (Verdict.NOT_MEASURABLE if doubt > limit.wanted / 2 else Verdict.WARN), limit.wanted


def _error(probe: Probe, figure: Callable[[Probe], float]) -> float:
    """Standard error of a figure by those of what it follows from, to first order."""

    def off(one: Calibrated) -> Calibrated:
        return Calibrated(value=one.value + one.uncertainty)

    each_off = (
        replace(probe, step_nm=off(probe.step_nm)),
        replace(probe, defocus_nm=off(probe.defocus_nm)),
        replace(probe, alpha_mrad=off(probe.alpha_mrad)),
        replace(probe, mrad_per_pixel=off(probe.mrad_per_pixel)),
    )
    return sqrt(sum((figure(moved) - figure(probe)) ** 2 for moved in each_off))
