"""The errors a user or an instrument can cause, each naming field, value, limit, unit and what to do."""

from collections.abc import Iterable
from typing import Any

from stem4d.names import plainly

PROBLEMS_TOLD, NAMES_TOLD = 10, 12
"""How many of several mistakes, and of several names, a message lists."""


def shown(value: object, longest: int = 80) -> str:
    """A value as it may stand in a message: control and bidirectional characters escaped, long text cut.

    It is cut in the middle: the end of a path is what names the file.
    """
    text = ascii(value) if isinstance(value, str) else repr(value)
    half = (longest - 3) // 2
    return text if len(text) <= longest else f"{text[:half]}...{text[-half:]}"


def some_of(names: Iterable[str], most: int = NAMES_TOLD) -> str:
    """Names in a row, the first ones and how many more there are."""
    listed = list(names)
    more = len(listed) - most
    return ", ".join(listed[:most]) + (f" and {more} more" if more > 0 else "")


class NightbeamError(Exception):
    """Base of the errors that are shown to the user without a traceback."""


class Inconsistent(ValueError):
    """For a validator of a model: what one field says does not go with what others say."""

    def __init__(self, field: str, value: object, limit: str, remedy: str) -> None:
        self.field, self.value, self.limit, self.remedy = field, value, limit, remedy
        super().__init__(f"{field}: {limit}")


class BadInput(NightbeamError):
    """Input that is refused before anything is done with it.

    Parameters
    ----------
    field : str
        What was wrong, as the user wrote it (``optics.defocus_nm``, a file name).
    value : object
        The value that was given.
    limit : str
        What is allowed.
    unit : str
        Unit of value and limit, empty for none.
    remedy : str
        What the user can do.
    """

    def __init__(self, *, field: str, value: object, limit: str, unit: str = "", remedy: str = "") -> None:
        self.field, self.value, self.limit, self.unit, self.remedy = field, value, limit, unit, remedy
        got = f"{shown(value)} {unit}".rstrip()
        text = f"{field}: got {got}; {limit}"
        # What is allowed may name what is in the record, and a file's name is anything.
        super().__init__(plainly(f"{text}. {remedy}" if remedy else text))

    def __reduce__(self) -> tuple[object, ...]:
        return (_rebuild_bad_input, (self.field, shown(self.value), self.limit, self.unit, self.remedy))

    def as_dict(self) -> dict[str, Any]:
        """The same facts for ``--json``."""
        return {
            "field": self.field,
            "value": shown(self.value),
            "limit": self.limit,
            "unit": self.unit,
            "remedy": self.remedy,
        }


def _rebuild_bad_input(field: str, value: str, limit: str, unit: str, remedy: str) -> BadInput:
    return BadInput(field=field, value=value, limit=limit, unit=unit, remedy=remedy)


class SeveralBad(BadInput):
    """Several mistakes at once, the first ten told and all counted; the fields are those of the first."""

    def __init__(self, problems: tuple[BadInput, ...]) -> None:
        first = problems[0]
        super().__init__(field=first.field, value=first.value, limit=first.limit, unit=first.unit, remedy=first.remedy)
        self.problems = problems
        listed = "".join(f"\n  {number}. {one}" for number, one in enumerate(problems[:PROBLEMS_TOLD], 1))
        more = len(problems) - PROBLEMS_TOLD
        rest = f"\n  and {more} more, told when these are mended" if more > 0 else ""
        self.args = (f"{len(problems)} problems:{listed}{rest}",)

    def __reduce__(self) -> tuple[object, ...]:
        return (SeveralBad, (self.problems,))

    def as_dict(self) -> dict[str, Any]:
        """Those of the first, how many there are, and the first of them as ``problems``."""
        told = [one.as_dict() for one in self.problems[:PROBLEMS_TOLD]]
        return {**super().as_dict(), "count": len(self.problems), "problems": told}


class LimitViolation(NightbeamError):
    """A device was asked for more than it can do; nothing was changed."""

    def __init__(self, *, device: str, setting: str, asked: object, limit: str, unit: str = "") -> None:
        self.device, self.setting, self.asked, self.limit, self.unit = device, setting, asked, limit, unit
        got = f"{shown(asked)} {unit}".rstrip()
        super().__init__(f"{device}: {setting} = {got} is outside its limits ({limit})")


class NotConfirmed(NightbeamError):
    """A device read back something else than was asked for."""

    def __init__(self, *, device: str, setting: str, asked: object, read: object, unit: str = "") -> None:
        wanted, got = (f"{shown(value)} {unit}".rstrip() for value in (asked, read))
        super().__init__(f"{device}: asked for {setting} = {wanted}, it reads back {got}")


class DeviceFault(NightbeamError):
    """A device failed or answered out of turn."""


class DoseRefused(NightbeamError):
    """An exposure that the specimen area cannot afford, or that carries no valid dose lease."""


class BrokenOff(NightbeamError):
    """What runs was ended because a person asked for it; nothing is wrong with it."""


class InstrumentTaken(DeviceFault):
    """A gate that refused a lease minted for it just before: expired meanwhile, or somebody else has the instrument."""
