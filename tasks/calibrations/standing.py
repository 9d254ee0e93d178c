"""Which calibrations the database has for a plan's settings, which of them may be used, and what they come to."""

from collections.abc import Iterable, Mapping
from dataclasses import replace

from db.calibrations import CalibrationRecord, Standing
from stem4d.mode import TOLD_BY_COLUMN, Setting
from stem4d.plan import Plan
from stem4d.rules.figures import figures_of
from tasks.calibrated import Calibrated, uncalibrated
from tasks.calibrations.kinds import KINDS, mode_keys
from tasks.lab import Lab
from tasks.memory import standings_of


def told_by_column(opened: Lab) -> dict[str, Setting]:
    """The settings that only the column itself knows, as far as it reports them."""
    return {one.name: one.value for one in opened.instrument.column.snapshot() if one.name in TOLD_BY_COLUMN}


def keys(opened: Lab, plan: Plan) -> dict[str, str]:
    """The mode key of every kind for a plan on this instrument as it stands."""
    return mode_keys(plan, opened.file.facts, told_by_column(opened))


def standings(opened: Lab, plan: Plan, kinds: Iterable[str] = tuple(KINDS)) -> dict[str, Standing]:
    """How the calibrations of these kinds stand for a plan's settings now."""
    found = standings_of(opened, keys(opened, plan), kinds)
    return {kind: _trusted(opened, one) for kind, one in found.items()}


def _trusted(opened: Lab, one: Standing) -> Standing:
    record = one.calibration
    if one.state != "missing" and record and opened.calibrate_always and record.measured_at < opened.opened_at:
        return replace(one, state="distrusted", why="calibrations made before are not to be used in this session")
    return one


def may_use(opened: Lab, one: Standing) -> bool:
    """Whether a run may use it: while valid, or past its time where the operator accepts that."""
    return one.state == "valid" or (one.state == "expired" and opened.accept_stale)


def usable(opened: Lab, found: Mapping[str, Standing]) -> dict[str, CalibrationRecord]:
    """The calibrations that may be used."""
    return {kind: one.calibration for kind, one in found.items() if one.calibration and may_use(opened, one)}


def together(plan: Plan, found: Mapping[str, CalibrationRecord]) -> Calibrated:
    """What the calibrations of a plan's settings come to; what is not known is as the plan has it."""
    raw = uncalibrated(plan)
    more: dict[str, object] = {"calibration_ids": {kind: record.id for kind, record in found.items()}}
    value = {kind: record.value for kind, record in found.items()}
    if mask := value.get("pixel_mask"):
        more["bad_pixels"] = tuple((y, x) for y, x in mask["bad_pixels"])
    if centre := value.get("centre"):
        more |= {"centre_px": tuple(centre["centre_px"]), "disk_radius_px": centre["radius_px"]}
    if descan := value.get("descan"):
        setting = {
            "diffraction_shift_mrad": tuple(descan["diffraction_shift_mrad"]),
            "descan_mrad_per_nm": tuple(tuple(row) for row in descan["descan_mrad_per_nm"]),
        }
        more |= {"column": raw.column.model_copy(update=setting), "descan_range_px": descan["range_after_px"]}
    if current := value.get("current"):
        more["current_ratio"] = current["true_over_commanded"]
    if scale := value.get("mrad_per_pixel"):
        more["mrad_per_pixel"] = scale["mrad_per_pixel"]
    found_figures: dict[str, object] = {}
    for kind, record in found.items():
        found_figures |= figures_of(kind, record.value, record.uncertainty, plan.scan.step_nm)
    return raw.model_copy(update={**more, "known": found_figures})
