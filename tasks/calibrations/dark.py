"""Dark level and response of integrating detectors; a counting detector has neither."""

from tasks.calibrations.bench import Bench
from tasks.calibrations.measured import Measured, not_measurable


def measure(bench: Bench) -> tuple[Measured, ...]:
    """Says why there is nothing to measure, or that frames with the beam off cannot be taken yet."""
    name = bench.plan.detector.name
    facts = next((each for each in bench.opened.file.facts.all_detectors if each.name == name), None)
    if facts is None or facts.noise_e_per_px is None:
        return (not_measurable("dark_flat", f"{name} counts single electrons: it has no dark level"),)
    return (not_measurable("dark_flat", "frames with the beam blanked are not taken yet"),)
