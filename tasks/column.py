"""Setting a device and confirming it: what is read back has to be what was asked for."""

from devices.protocols import ColumnSetting, Instrument
from stem4d.errors import NotConfirmed
from stem4d.model import Strict

READ_BACK_TOLERANCE = 1e-3
"""A device may round what it is asked for by this fraction; more is an error, not a detail."""


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
        wanted, got = getattr(asked, name), getattr(read, name)
        if isinstance(wanted, Strict) and isinstance(got, Strict):
            confirm(device, wanted, got)
        elif isinstance(wanted, float) and isinstance(got, float):
            if abs(got - wanted) > READ_BACK_TOLERANCE * abs(wanted):
                raise NotConfirmed(device=device, setting=name, asked=wanted, read=got)
        elif wanted != got:
            raise NotConfirmed(device=device, setting=name, asked=wanted, read=got)
