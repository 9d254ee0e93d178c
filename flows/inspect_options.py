"""Which option of ``nightbeam inspect`` would let a figure be judged that was not."""

from stem4d.detector import DetectorFacts
from stem4d.quality.file import FileKnowledge
from stem4d.quality.values import NOTHING
from stem4d.verdict import QualityResult, Verdict

OPTIONS = {
    "mrad_per_pixel": "--mrad-per-pixel",
    "scan_step_nm": "--step-nm",
    "beam_energy_kev": "--beam-energy-kev",
    "convergence_semi_angle_mrad": "--convergence-semi-angle-mrad",
    "defocus_nm": "--defocus-nm",
    "dwell_time_us": "--dwell-us",
    "max_count_rate_per_px_hz": "--max-count-rate-hz (or --detector)",
}
"""By the names of ``FileKnowledge``."""
NEEDS = {
    "saturation.rate": ("dwell_time_us", "max_count_rate_per_px_hz"),
    "sampling.": ("mrad_per_pixel", "scan_step_nm", "beam_energy_kev", "convergence_semi_angle_mrad", "defocus_nm"),
    "knowledge": tuple(OPTIONS),
}
"""What a metric takes, by the beginning of its name."""
BY_FULL_SCALE = ("saturation.disk", "saturation.bragg", "saturation.mask", "saturation.wrap")


def with_options(
    one: QualityResult, known: FileKnowledge, full_scale: int | None, detector: DetectorFacts | None
) -> QualityResult:
    """The same result; where it was not measurable for want of a figure, its message names the option that gives it."""
    if one.verdict is not Verdict.NOT_MEASURABLE or one.message == NOTHING:
        return one
    needed = next((names for start, names in NEEDS.items() if one.metric.startswith(start)), ())
    missing = [OPTIONS[name] for name in needed if getattr(known, name) is None]
    if detector is not None and OPTIONS["max_count_rate_per_px_hz"] in missing:
        missing.remove(OPTIONS["max_count_rate_per_px_hz"])
    if one.metric in BY_FULL_SCALE and full_scale is None:
        missing.append("--full-scale")
    if one.message.startswith("Electrons are not known"):
        missing.append("--counts-per-electron")
    if not missing:
        return one
    *others, last = missing
    text = f"{', '.join(others)} and {last}" if others else last
    return one.model_copy(update={"message": f"{one.message} Give {text}."})
