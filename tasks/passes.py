"""The stage that makes the passes of a run: each watched as it comes and judged when it has come."""

from typing import Any

from devices.acquire import Progress
from devices.protocols import ScanRequest
from stem4d.errors import DoseRefused
from stem4d.plan import Plan
from stem4d.quality.online import watch
from stem4d.verdict import QualityResult
from storage.crash import crash_point
from tasks.between import failing_so_far
from tasks.calibrated import Calibrated, accumulator_spec
from tasks.expose import Exposed, Pass, expose_once, scan_request
from tasks.files import file_metadata
from tasks.follow import Followed
from tasks.lab import Lab, lab
from tasks.record import register_dataset, tell_losses
from tasks.reference import Reference
from tasks.stage import stage


@stage("expose")
def expose(instrument: str, run: str, calibrated_json: str) -> dict[str, Any]:
    """All passes of a run, or those before the first after which something fails.

    Returns
    -------
    dict
        ``passes``: files and when they were taken; ``stopped``: why the last one was broken off, or empty; ``failing``:
        what fails in whole passes, so that the rest of them was not exposed; ``references``: files of the reference
        scans that the plan asks for, and when they began; ``asked``: that a person ended it.

    Raises
    ------
    DoseRefused
        Before anything is exposed, where the area cannot bear a reference scan beside its plan.
    """
    opened = lab(instrument)
    plan = opened.runs[run].plan
    calibrated = Calibrated.model_validate_json(calibrated_json)
    passes: list[dict[str, Any]] = []
    stopped = asked = ""
    failing: tuple[QualityResult, ...] = ()
    followed = Followed(opened, run, plan, calibrated) if plan.exposure.track_drift else None
    reference = Reference(opened, run, plan, calibrated, "reference") if plan.exposure.reference_scans else None
    looks = [reference.scan()] if reference else []
    for index in range(plan.exposure.passes):
        if index:
            opened.instrument.pause(plan.exposure.pause_between_passes_s)
        scan = followed.next_scan(index) if followed else scan_request(plan)
        done = _one_pass(opened, run, plan, calibrated, index, scan)
        dataset = register_dataset(opened, run, index, done.result)
        crash_point("pass.registered")
        which = f"pass {index + 1} of {plan.exposure.passes}"
        tell_losses(opened, run, which, done.result)
        passes.append(
            {
                "path": str(done.result.receipt.path),
                "sha256": done.result.receipt.sha256,
                "dataset_id": dataset,
                "started_s": done.started_s,
                "ended_s": done.ended_s,
            }
        )
        stopped = done.result.stopped
        if stopped:
            opened.tell("stopped early", stopped, run=run, started_s=done.started_s)
            asked = opened.break_off()
            break
        held_up_s = round(done.result.held_up_s, 3)
        # The instrument's clock, by which drift was judged, is told nowhere else.
        opened.tell("pass recorded", which, run=run, held_up_s=held_up_s, started_s=done.started_s)
        asked = opened.between() if index + 1 < plan.exposure.passes else ""
        if asked:
            asked = f"{asked}, after {which}"
            opened.tell("stopped early", asked, run=run)
            break
        if index + 1 < plan.exposure.passes and plan.quality.stop_early:
            failing = failing_so_far(opened, run, plan, calibrated, passes)
        if failing:
            reason = " ".join(dict.fromkeys(one.message for one in failing))
            opened.tell("stopped early", f"after {which}: {reason}", run=run)
            break
    if reference and not stopped and not asked:
        try:
            looks.append(reference.scan(passes_before_it=len(passes)))
        except DoseRefused as error:
            opened.tell("tracking", f"no reference scan after the passes: {error}", run)
    return {
        "passes": passes,
        "stopped": stopped,
        "failing": [one.model_dump(mode="json") for one in failing],
        "references": [{"path": str(one.path), "started_s": one.started_s} for one in looks],
        "asked": asked,
    }


def _one_pass(opened: Lab, run: str, plan: Plan, calibrated: Calibrated, index: int, scan: ScanRequest) -> Exposed:
    one = Pass(
        plan=plan,
        column=calibrated.column,
        scan=scan,
        accumulator=accumulator_spec(plan, calibrated, opened.settings.accumulator_threads),
        position=plan.sample.area,
        area_id=opened.runs[run].area_id,
        purpose="acquisition",
        current_ratio=calibrated.current_ratio,
        path=opened.data_folder(run) / f"pass{index + 1}.h5",
        metadata=file_metadata(plan, run, "acquisition"),
    )

    detector = opened.file.facts.detector(plan.detector.name)
    stop_reason = watch(plan, calibrated.geometry(), calibrated.bad_pixel_mask(plan.detector.shape), detector)

    def on_progress(progress: Progress) -> str | None:
        opened.on_progress(f"{plan.name} pass {index + 1}/{plan.exposure.passes}", progress)
        if not plan.quality.stop_early:
            return None
        reason = stop_reason(progress.sum_pattern, progress.max_pattern, progress.frames_done)
        if reason is None:
            opened.on_watched(progress.frames_done)
        return reason

    return expose_once(opened, run, one, on_progress)
