"""A night of sixty targets on an instrument with a schedule of faults: each target has its slot and its own areas.

A target begins no earlier than its slot on the instrument's clock, as it would be with the time that finding it takes,
so that a fault that is scheduled for a slot meets its target, whatever came of those before it.
"""

import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from flows.queue import Queued
from stem4d.night import Night
from stem4d.plan import Plan
from storage import orders
from storage.documents import load_model, validate
from tasks.lab import Lab
from tests.flows.dose_world import BAD_PIXELS
from tests.flows.night_world import INSTRUMENT, PLANS

TARGETS = 60
SLOT_S = 600.0
"""Between the beginnings of two targets [s]; longer than anything that a target is mended by takes."""
PREFECT, SATURATED, DRIFTS, RESTLESS, DESCAN, NO_BEAM, FLICKER = 3, 5, 10, 12, 15, 20, 22
VACUUM, STALL, STALL_ALONE, DISK, DATABASE, REFUSED, UNWANTED = 25, 30, 32, 35, 45, 50, 55
AWAY_FOR = 3
"""Targets that run while the database is away."""
SETTLES_AFTER_S, TRIP_S, FLICKER_AT_S = 60.0, 1500.0, 0.2

STANDING = """
specimen = "square"
spacing_a = 3.9
atom_phase_rad = 1.4
modulation = 0.3
"""
MOVING = """
specimen = "random"
spacing_a = 5.0
atom_phase_rad = 1.4
modulation = 0.3
drift_nm_per_min = [12.0, -9.0]
"""


def target(number: int) -> str:
    """Name of a target; its areas are named after it."""
    return f"t{number:02d}"


def slot_s(number: int) -> float:
    """When a target begins at the earliest [s]."""
    return number * SLOT_S


def schedule(at_s: float, until_s: float | None, knob: str, value: Any) -> str:
    until = "" if until_s is None else f"until_s = {until_s}\n"
    return f'[[settings.schedule]]\nat_s = {at_s}\n{until}knob = "{knob}"\nvalue = {value}'


def instrument(home: Path) -> Path:
    """Write the file of the instrument with its areas and its faults."""
    areas = []
    for number in range(TARGETS):
        specimen = MOVING if number in (DRIFTS, RESTLESS) else STANDING
        for name in (target(number), f"{target(number)}-spare"):
            areas.append(f"[settings.areas.{name}]{specimen}seed = {number + 11}\n")
            areas.append(f"[settings.areas.{name}.beam_damage]")
    begins, flickers = slot_s(NO_BEAM), slot_s(FLICKER) + FLICKER_AT_S
    dropouts = f"[{{ at_s = {begins - 1}, seconds = {SLOT_S / 2} }}, {{ at_s = {flickers}, seconds = 0.1 }}]"
    settles_s = slot_s(DRIFTS) + SETTLES_AFTER_S
    tables = (
        *areas,
        f"[settings.beam]\ndropouts = {dropouts}",
        schedule(settles_s, None, f"areas.{target(DRIFTS)}.drift_nm_per_min", "[0.2, -0.1]"),
        schedule(slot_s(DESCAN) - 1, None, "descan_error_mrad_per_nm", "[[1.05, 0.2], [-0.25, 0.65]]"),
        schedule(slot_s(VACUUM) - 1, slot_s(VACUUM) - 1 + TRIP_S, "supply.vacuum_pascal", "1.0e-2"),
    )
    text = INSTRUMENT.read_text().replace(BAD_PIXELS, "")
    path = home / "instrument.toml"
    path.write_text("\n".join((text, *tables)))
    tomllib.loads(path.read_text())
    return path


def plan_of(number: int) -> Plan:
    """The plan of a target on its own area, with a spare one, except where something else is wanted."""
    name = target(number)
    own = [f"sample.area={name}", "sample.name=wafer"]
    if number != STALL_ALONE:
        own.append(f"sample.spare_areas=[{name}-spare]")
    base = "1_overview"
    match number:
        case n if n == SATURATED:
            base = "3_saturating"
            own += ["scan.shape=[16, 16]", "scan.step_nm=0.12", "quality.remedies=[reduce_current]"]
        case n if n in (DRIFTS, RESTLESS):
            base = "5_drifting"
            remedy = "settle" if n == DRIFTS else "skip"
            own += ["scan.shape=[40, 40]", "scan.step_nm=0.06", f"quality.remedies=[{remedy}]"]
        case n if n == REFUSED:
            own += [*FIELD, "sample.fluence_budget_e_per_a2=1.0"]
        case n if n == NO_BEAM:
            own += [*FIELD, "quality.remedies=[skip]"]
        case n if n == FLICKER:
            # A pass of 0.6 s, in whose middle the beam is gone for a tenth.
            own += [*FIELD, "exposure.dwell_time_us=1000"]
        case n if n == DESCAN:
            own += [*FIELD, "quality.max_descan_px=0.5"]
        case _:
            own += FIELD
    return load_model(PLANS / "demo" / f"{base}.yaml", Plan, own)


FIELD = (
    "scan.shape=[24, 24]",
    "scan.step_nm=0.4",
    "optics.defocus_nm=30",
    "scan.flyback_us=300",
    "scan.flyback_blanked=false",
)
"""A probe 1.3 nm wide covers several steps: the fluence is even, and can be compared with the truth."""


def night() -> tuple[Night, tuple[Queued, ...]]:
    """The night, and what it is to run."""
    targets = [{"name": target(number), "plan": f"{target(number)}.yaml"} for number in range(TARGETS)]
    targets[REFUSED]["expect"] = "refused"
    document = {
        "format_version": 1,
        "name": "long",
        "instrument": "instrument.toml",
        "order": "as_written",
        "targets": targets,
        "conditions": {"vacuum_pascal": 1e-4, "emission_ua": 1.0},
    }
    read = validate(document, Night, "night")
    return read, tuple(Queued(one, plan_of(number)) for number, one in enumerate(read.targets))


Happens = dict[tuple[int, str], Callable[[], None]]
"""What happens before a stage of a target, the first time; the stages are named as a person sees them."""


def played(opened: Lab, happens: Happens) -> None:
    """Have the targets of an open lab begin in their slots, and things happen before their stages."""
    folder = opened.settings.instruments_folder / opened.file.name
    seen: set[tuple[int, str]] = set()

    def on_stage(stage: str) -> None:
        status = orders.read_status(folder)
        assert status is not None
        number = int(status["target"]["name"][1:])
        if (number, stage) in seen:
            return
        seen.add((number, stage))
        if stage == "open run" and (early_s := slot_s(number) - opened.instrument.now_s()) > 0:
            opened.instrument.pause(early_s)
        if then := happens.get((number, stage)):
            then()

    opened.on_stage = on_stage
