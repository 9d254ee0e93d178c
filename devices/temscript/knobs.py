"""What temscript's server lets one turn: each with our name and unit on one side, the server's value on the other."""

from collections.abc import Callable
from dataclasses import dataclass
from math import isclose

from devices.protocols import ColumnSetting, Matrix
from devices.temscript.rest import Temscript
from devices.temscript.settings import TemscriptSettings, applied, inverse
from stem4d.errors import NotConfirmed
from stem4d.instrument import InstrumentFacts

READ_BACK_TOLERANCE = 1e-3
"""A value may read back otherwise by this fraction of it; no more is lost between digits and coils."""
READ_BACK_FLOOR = {"nm": 0.01, "mrad": 1e-4}
"""The same for values near zero, by unit."""
SAME = 1e-9
"""A value that stands as it is asked for to this fraction is not written again: lenses have hysteresis."""

Values = tuple[float, ...]


@dataclass(frozen=True)
class Knob:
    """One value of the server, or a pair of them."""

    names: tuple[str, ...]
    """Ours, one for each number, as in a snapshot."""
    unit: str
    endpoint: str
    asked: Callable[[ColumnSetting], Values]
    """What a setting asks of it, in our unit."""
    read: Callable[[Temscript], Values]
    """What the server has, in our unit."""
    sent: Callable[[Values], object]
    """What is to be written for values in our unit."""

    def set(self, server: Temscript, setting: ColumnSetting) -> None:
        """Write what is asked for, where it is not there already."""
        asked = self.asked(setting)
        floor = SAME * READ_BACK_FLOOR.get(self.unit, 1.0)
        there = self.read(server)
        if not all(isclose(a, b, rel_tol=SAME, abs_tol=floor) for a, b in zip(asked, there, strict=True)):
            server.write(self.endpoint, self.sent(asked))

    def confirmed(self, server: Temscript, setting: ColumnSetting) -> Values:
        """Read it back; raises `NotConfirmed` for what is not what was asked for."""
        there = self.read(server)
        for name, asked, read in zip(self.names, self.asked(setting), there, strict=True):
            floor = READ_BACK_FLOOR.get(self.unit, 0.0)
            if not isclose(read, asked, rel_tol=READ_BACK_TOLERANCE, abs_tol=floor):
                whole = not self.unit  # an index
                wanted, got = (int(asked), int(read)) if whole else (asked, read)
                raise NotConfirmed(device="column", setting=name, asked=wanted, read=got, unit=self.unit)
        return there


def knobs_of(settings: TemscriptSettings, facts: InstrumentFacts) -> dict[str, Knob]:
    """Those that the files state, in the order in which they are turned: what changes lenses first."""
    found = {
        "spot": _index("spot_index", "spot_size_index", currents_pa(settings), _current),
        "camera length": _index("camera_length_index", "magnification_index", camera_lengths_mm(settings), _length),
        "convergence": _number("convergence_semi_angle_mrad", "mrad", "convergence_angle", 1e-3, _angle),
        "focus": _number(
            "defocus_nm", "nm", settings.focus, -1e-9 if settings.focus_positive == "overfocus" else 1e-9, focus_nm
        ),
    }
    if facts.stigmator_nm is not None and settings.stigmator_per_nm is not None:
        found["stigmator"] = _pair(
            ("stigmator_along_nm", "stigmator_across_nm"),
            "nm",
            "condenser_stigmator",
            settings.stigmator_per_nm,
            1.0,
            lambda setting: setting.stigmator_nm,
        )
    if facts.beam_shift_nm is not None:
        found["beam shift"] = _pair(
            ("beam_shift_y_nm", "beam_shift_x_nm"),
            "nm",
            "beam_shift",
            settings.beam_shift_axes,
            1e-9,
            lambda setting: setting.beam_shift_nm,
        )
    if settings.diffraction_shift_mrad is not None:
        found["diffraction shift"] = _pair(
            ("diffraction_shift_y_mrad", "diffraction_shift_x_mrad"),
            "mrad",
            "diffraction_shift",
            settings.diffraction_shift_axes,
            1e-3,
            lambda setting: setting.diffraction_shift_mrad,
        )
    return found


def currents_pa(settings: TemscriptSettings) -> dict[int, float]:
    """What was measured with each spot [pA]: the server measures nothing of the probe."""
    return {row.index: row.probe_current_pa for row in settings.spots}


def camera_lengths_mm(settings: TemscriptSettings) -> dict[int, float]:
    """What the microscope indicates with each index [mm]."""
    return {row.index: row.camera_length_mm for row in settings.camera_lengths}


def _current(setting: ColumnSetting) -> float:
    return setting.optics.probe_current_pa


def _length(setting: ColumnSetting) -> float:
    return setting.optics.camera_length_mm


def _angle(setting: ColumnSetting) -> float:
    return setting.optics.convergence_semi_angle_mrad


def focus_nm(setting: ColumnSetting) -> float:
    """Defocus that the lenses are to have [nm]."""
    return setting.optics.defocus_nm + setting.focus_correction_nm


def _number(name: str, unit: str, endpoint: str, by: float, asked: Callable[[ColumnSetting], float]) -> Knob:
    """One number; ``by`` of the server's unit are one of ours."""
    return Knob(
        names=(name,),
        unit=unit,
        endpoint=endpoint,
        asked=lambda setting: (asked(setting),),
        read=lambda server: (server.number(endpoint) / by,),
        sent=lambda values: values[0] * by,
    )


def _pair(
    names: tuple[str, str],
    unit: str,
    endpoint: str,
    axes: Matrix,
    by: float,
    asked: Callable[[ColumnSetting], tuple[float, float]],
) -> Knob:
    """A pair, (y, x) here and (x, y) there."""
    back = inverse(axes)

    def read(server: Temscript) -> Values:
        x, y = server.pair(endpoint)
        return applied(back, (y / by, x / by))

    def sent(values: Values) -> object:
        y, x = applied(axes, (values[0], values[1]))
        return [x * by, y * by]

    return Knob(names, unit, endpoint, asked, read, sent)


def _index(name: str, endpoint: str, table: dict[int, float], asked: Callable[[ColumnSetting], float]) -> Knob:
    """A row of the file's table by its index, which is what the server takes."""

    def index_of(value: float) -> int:
        return min(table, key=lambda index: abs(table[index] - value))

    return Knob(
        names=(name,),
        unit="",
        endpoint=endpoint,
        asked=lambda setting: (float(index_of(asked(setting))),),
        read=lambda server: (float(server.whole(endpoint)),),
        sent=lambda values: int(values[0]),
    )
