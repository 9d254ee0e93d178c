"""What is judged of the scan engine: jitter, hum, flyback and distortion, where a lattice or two passes show them."""

from collections.abc import Sequence

from stem4d.maps import RunMaps
from stem4d.predict import predict
from stem4d.quality.distortion import check_distortion
from stem4d.quality.flyback import check_flyback
from stem4d.quality.line_shifts import line_shifts
from stem4d.quality.regions import Subject
from stem4d.quality.scan_noise import check_scan_noise
from stem4d.verdict import QualityResult


def check_scan(passes: Sequence[RunMaps], subject: Subject) -> tuple[QualityResult, ...]:
    """Judge where the rows and columns of a scan lie, in steps; what nothing shows is "not measurable"."""
    shifts, reason = line_shifts(passes)
    line_time_s = predict(subject.plan).line_time_s if subject.plan is not None else None
    return (
        *check_scan_noise(shifts, reason, line_time_s),
        *check_flyback(shifts, reason),
        *check_distortion(shifts, reason),
    )
