"""Signal: whether a pattern holds the electrons that each analysis wants, and what noise they leave (rule 7)."""

from collections.abc import Iterator

from stem4d.dose import centre_of_mass_noise_mrad
from stem4d.plan import CentreOfMass, Strain
from stem4d.precision import BRAGG_DISKS, BRAGG_SHARE, strain_noise
from stem4d.quality.grade import grade, grade_least, result
from stem4d.quality.regions import Subject, Wanted
from stem4d.rules.limits import LIMITS
from stem4d.verdict import QualityResult, Verdict

NOISE_FAILS = 1.5
"""Noise over the smallest deflection from which on a run fails; up to it counts lost in the specimen are borne."""


def check_signal(measured: float, error: float, bound: str, subject: Subject) -> Iterator[QualityResult]:
    """Judge the electrons of a pattern for every wanted analysis.

    Parameters
    ----------
    measured, error : float
        Electrons a pattern with their standard error.
    bound : str
        A sentence for the message where they are a lower bound.
    subject : Subject
        What is wanted and known.
    """
    for wanted in subject.wanted:
        yield from _enough(measured, error, bound, wanted)
        yield from _noise_of_centre(measured, error, subject, wanted)
        yield from _noise_of_strain(measured, error, subject, wanted)


def _enough(measured: float, error: float, bound: str, wanted: Wanted) -> Iterator[QualityResult]:
    """Enough electrons in a pattern for what is wanted; a clipped pattern that has enough has enough."""
    limit = LIMITS.get(f"electrons_per_pattern/{wanted.kind}")
    if limit is None or measured <= 0:
        # That not one electron came is told of the dose.
        return
    verdict, _ = grade_least(measured, error, soft=limit.wanted)
    text = f"{measured:.4g} electrons a pattern; this analysis wants {limit.wanted:g} ({limit.source}).{bound}"
    if verdict is Verdict.WARN:
        text += " Use a longer dwell, or sum neighbouring patterns."
    yield result(
        "dose.signal",
        wanted.name,
        verdict,
        text,
        value=measured,
        limit=limit.wanted,
        unit="e/pattern",
        uncertainty=error,
    )


def _noise_of_centre(measured: float, error: float, subject: Subject, wanted: Wanted) -> Iterator[QualityResult]:
    alpha = subject.known.convergence_semi_angle_mrad
    smallest = wanted.asked.smallest_deflection_mrad if isinstance(wanted.asked, CentreOfMass) else None
    if smallest is None or alpha is None or measured <= 0:
        return
    noise = centre_of_mass_noise_mrad(alpha, measured)
    noise_error = _error_of_noise(noise, measured, error)
    verdict, limit = grade(noise, noise_error, soft=smallest, hard=NOISE_FAILS * smallest)
    text = f"Counting noise of the centre of mass is {noise:.3g} mrad; deflections of {smallest:g} mrad are wanted."
    if verdict is not Verdict.PASS:
        text += f" It takes {(noise / smallest) ** 2:.1f} times the electrons."
    yield result(
        "dose.noise", wanted.name, verdict, text, value=noise, limit=limit, unit="mrad", uncertainty=noise_error
    )


def _noise_of_strain(measured: float, error: float, subject: Subject, wanted: Wanted) -> Iterator[QualityResult]:
    """A warning only: how bright the disks are is assumed."""
    if subject.plan is None or not isinstance(wanted.asked, Strain) or measured <= 0:
        return
    noise, target = strain_noise(subject.plan, wanted.asked, measured), wanted.asked.target_strain
    noise_error = _error_of_noise(noise, measured, error)
    verdict, limit = grade(noise, noise_error, soft=target)
    text = (
        f"Counting noise of the strain is about {noise:.2g}; {target:g} is wanted. Assumed: {BRAGG_DISKS} disks with "
        f"{BRAGG_SHARE:.0%} of the electrons each."
    )
    if verdict is not Verdict.PASS:
        text += f" It takes {(noise / target) ** 2:.1f} times the electrons."
    yield result("dose.noise", wanted.name, verdict, text, value=noise, limit=limit, uncertainty=noise_error)


def _error_of_noise(noise: float, measured: float, error: float) -> float:
    """Noise goes with the root of the electrons."""
    return noise * error / (2 * measured)
