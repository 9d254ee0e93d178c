"""How long the analyses at the end of a run take that take minutes; the others take seconds."""

from stem4d.plan import Analysis, Plan, Ptychography

PIXELS_PER_S = 2.5e7
"""Pixels of patterns that an iteration of ptychography goes through in a second on two shared cores: `make bench`,
2304 patterns of 96 x 96 in 0.65 to 0.85 s."""
HALVES = 1.8
"""Over the time of the whole, with both halves reconstructed too."""


def reconstruction_s(wanted: Ptychography, patterns: int, pattern_px: int) -> float:
    """Predicted time of a reconstruction [s]: patterns of so many pixels each."""
    return HALVES * wanted.iterations * wanted.probe_modes * patterns * pattern_px / PIXELS_PER_S


def analysis_s(plan: Plan) -> float:
    """Predicted time of a plan's long analyses at the end of its run [s]; those that it does not allow take none."""
    return sum(_seconds(plan, wanted) for wanted in plan.analyses)


def _seconds(plan: Plan, wanted: Analysis) -> float:
    if not isinstance(wanted, Ptychography) or wanted.reconstruct != "at_end" or wanted.model != "single_slice":
        return 0.0
    seconds = reconstruction_s(wanted, plan.scan.frames, min(plan.detector.shape) ** 2)
    return seconds if seconds <= 60 * wanted.max_reconstruction_min else 0.0
