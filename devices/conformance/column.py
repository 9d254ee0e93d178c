"""Checks of the optics: what is asked is what is read back, what is out of range is refused, a snapshot is whole."""

from collections.abc import Iterator
from datetime import UTC, datetime
from math import isfinite

from pydantic import ValidationError

from devices.conformance.subject import Subject, applies, changes, need, need_close
from devices.protocols import ColumnSetting, Instrument, Reading
from stem4d.errors import LimitViolation
from stem4d.instrument import InstrumentFacts
from storage.units import unit_of

SOURCES = ("measured", "commanded", "cached")
OUTSIDE = 1.01
"""How far beyond a limit a value is that has to be refused, as a factor of the range."""


def column_reads_back(subject: Subject, instrument: Instrument) -> None:
    """Each setting is read back as it was asked for, and shows in the snapshot."""
    for setting in _settings(subject):
        need_close("column", setting, instrument.column.prepare(setting))
        shown = {reading.name: reading.value for reading in instrument.column.snapshot()}
        for name, asked in _values(setting):
            if name in shown:
                value = shown[name]
                need(
                    isinstance(value, float | int) and abs(value - asked) <= 1e-3 * abs(asked) + 1e-6,
                    f"{name} was set to {asked}, and the snapshot shows {value}",
                )


def column_tells_what_changes(subject: Subject, instrument: Instrument) -> None:
    """Whatever differs between the two settings is in the snapshot by name."""
    one, other = _settings(subject)
    instrument.column.prepare(one)
    shown = {reading.name for reading in instrument.column.snapshot()}
    differs = [name for (name, a), (_, b) in zip(_values(one), _values(other), strict=True) if a != b]
    missing = [name for name in differs if name not in shown]
    need(not missing, f"the snapshot does not show {', '.join(missing)}, which a setting changes")


def column_takes_the_same_twice(subject: Subject, instrument: Instrument) -> None:
    """A setting that stands already gives the same answer, and changes nothing."""
    setting = _settings(subject)[0]
    first = instrument.column.prepare(setting)
    before = instrument.column.snapshot()
    need_close("column, asked for again", first, instrument.column.prepare(setting))
    _need_unchanged(before, instrument, "asking for what stands already")


def column_refuses_what_is_out_of_range(subject: Subject, instrument: Instrument) -> None:
    """Values beyond what the instrument file states are a `LimitViolation`, and change nothing."""
    one, other = _settings(subject)
    instrument.column.prepare(one)
    before = instrument.column.snapshot()
    for name, beyond in _beyond(subject.file.facts, other):
        try:
            got = instrument.column.prepare(beyond)
        except LimitViolation as error:
            need(bool(error.setting and error.limit), f"{name} out of range is refused without naming it or its limit")
        else:
            need(False, f"{name} out of range was not refused; it was taken as {got}")
        _need_unchanged(before, instrument, f"refusing {name}")


def column_snapshot_is_whole(subject: Subject, instrument: Instrument) -> None:
    """Each reading has a name of its own, a value, its unit, a time with a zone, a source; that changes nothing."""
    instrument.column.prepare(_settings(subject)[0])
    began = datetime.now(UTC)
    readings = instrument.column.snapshot()
    ended = datetime.now(UTC)
    need(bool(readings), "the snapshot is empty after the column was set")
    names = [reading.name for reading in readings]
    need(len(set(names)) == len(names), f"a name stands twice in {', '.join(names)}")
    for reading in readings:
        need_whole(reading, began, ended)
    _need_unchanged(readings, instrument, "reading")


def need_whole(reading: Reading, began: datetime, ended: datetime) -> None:
    """Of one reading of a snapshot that was taken between two times."""
    name, value, at = reading.name, reading.value, reading.read_at
    need(bool(name), "a reading has no name")
    need(isinstance(value, float | int | str), f"{name} has the value {value!r}")
    need(not isinstance(value, float) or isfinite(value), f"{name} is {value}, which is no figure")
    by_name = unit_of(name) or reading.unit  # a detector's own names carry none
    need(reading.unit == by_name, f"{name} has the unit {reading.unit!r}, by its name it is {by_name!r}")
    need(reading.source in SOURCES, f"{name} comes from {reading.source!r}, and not from one of {', '.join(SOURCES)}")
    need(at.tzinfo is not None, f"the time of {name} has no zone")
    need(at <= ended, f"{name} was read at {at}, which is not yet")
    need(at >= began or reading.source == "cached", f"{name} is {reading.source}, and from {at}, before it was asked")


def _settings(subject: Subject) -> tuple[ColumnSetting, ColumnSetting]:
    applies(subject.settings is not None, "no settings of the column were stated")
    assert subject.settings is not None
    return subject.settings


def _values(setting: ColumnSetting) -> Iterator[tuple[str, float]]:
    """Names as snapshots have them, but for coils and corrections that other names are usual for."""
    yield from setting.optics.model_dump().items()
    for name, words in (("diffraction_shift", "mrad"), ("beam_shift", "nm")):
        for axis, value in zip("yx", getattr(setting, f"{name}_{words}"), strict=True):
            yield f"{name}_{axis}_{words}", value


def _beyond(facts: InstrumentFacts, setting: ColumnSetting) -> Iterator[tuple[str, ColumnSetting]]:
    """Settings with one value out of range each."""
    currents, defoci = facts.probe_current_pa, facts.defocus_nm
    optics = {
        "beam_energy_kev": [max(facts.beam_energies_kev) * OUTSIDE],
        "convergence_semi_angle_mrad": [max(each.convergence_semi_angle_mrad for each in facts.apertures) * OUTSIDE],
        "camera_length_mm": [max(facts.camera_lengths_mm) * OUTSIDE],
        "probe_current_pa": [currents.highest * OUTSIDE, currents.lowest / OUTSIDE],
        "defocus_nm": [
            edge + (OUTSIDE - 1) * (defoci.highest - defoci.lowest) * sign
            for edge, sign in ((defoci.highest, 1), (defoci.lowest, -1))
        ],
    }
    plain = {"focus_correction_nm": 0.0}
    for name, values in optics.items():
        for value in values:
            try:
                changed = setting.optics.model_validate({**setting.optics.model_dump(), name: value})
            except ValidationError:
                continue  # no plan can ask for it
            yield name, setting.model_copy(update={**plain, "optics": changed})
    for name, allowed in (("beam_shift_nm", facts.beam_shift_nm), ("stigmator_nm", facts.stigmator_nm)):
        most = max(abs(allowed.lowest), abs(allowed.highest)) if allowed else 1.0
        for pair in ((OUTSIDE * most, 0.0), (0.0, -OUTSIDE * most)):
            yield name, setting.model_copy(update={name: pair})


def _need_unchanged(before: tuple[Reading, ...], instrument: Instrument, by: str) -> None:
    changed = changes(before, instrument.column.snapshot())
    need(not changed, f"{by} changed the column: {'; '.join(changed)}")
