"""What a data file says of itself beside its frames: the plan in our vocabulary."""

from typing import Any

from stem4d.model import canonical_json, sha256_of
from stem4d.plan import Plan


def file_metadata(plan: Plan, run: str, purpose: str) -> dict[str, Any]:
    """Names and values for ``storage.spec.FileSpec.metadata``."""
    return {
        "run": run,
        "purpose": purpose,
        "plan": plan.name,
        "plan_sha256": sha256_of(canonical_json(plan)),
        "sample": plan.sample.name,
        "area": plan.sample.area,
        **plan.optics.model_dump(),
        "dwell_time_us": plan.exposure.dwell_time_us,
        "exposure_time_us": plan.exposure.live_time_us,
        "flyback_us": plan.scan.flyback_us,
        "scan_rotation_deg": plan.scan.rotation_deg,
        "detector": plan.detector.name,
        "bit_depth": plan.detector.bit_depth,
    }
