"""Setting a device and confirming it: what is read back has to be what was asked for."""

from math import isclose

from devices.protocols import ColumnSetting, Instrument
from stem4d.errors import NotConfirmed
from stem4d.model import Strict

READ_BACK_TOLERANCE = 1e-3
"""A device may round what it is asked for by this fraction; more is an error, not a detail."""
READ_BACK_FLOOR = 1e-6
"""In the unit of the setting, for those that are asked to be zero: below a pm, a nrad, an aA."""


def set_and_confirm(instrument: Instrument, asked: ColumnSetting) -> ColumnSetting:
    """Set the column and compare what it reads back.

    Raises
    ------
    NotConfirmed
        When a setting reads back differently by more than ``READ_BACK_TOLERANCE``.
    """
    read = instrument.column.prepare(asked)
    confirm("column", asked, read)
    return read


def confirm(device: str, asked: Strict, read: Strict) -> None:
    """Compare what a device resolved with what it was asked for, field by field."""
    for name in type(asked).model_fields:
        _confirm_value(device, name, getattr(asked, name), getattr(read, name))


def _confirm_value(device: str, name: str, wanted: object, got: object) -> None:
    if isinstance(wanted, Strict) and isinstance(got, Strict):
        confirm(device, wanted, got)
    elif isinstance(wanted, tuple) and isinstance(got, tuple) and len(wanted) == len(got):
        for index, (one, other) in enumerate(zip(wanted, got, strict=True)):
            _confirm_value(device, f"{name}[{index}]", one, other)
    elif isinstance(wanted, float) and isinstance(got, float):
        if not isclose(got, wanted, rel_tol=READ_BACK_TOLERANCE, abs_tol=READ_BACK_FLOOR):
            raise NotConfirmed(device=device, setting=name, asked=wanted, read=got)
    elif wanted != got:
        raise NotConfirmed(device=device, setting=name, asked=wanted, read=got)
