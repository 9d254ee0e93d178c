"""JSON as instruments may speak it: no NaN and no infinity, and true is no number."""

import json
from typing import Any, TypeGuard


def parsed(text: bytes) -> Any:
    """Read a document; raises ValueError for what is none, also where it is nested too deeply."""
    try:
        return json.loads(text, parse_constant=_constant)
    except RecursionError as error:
        raise ValueError(str(error)) from None


def is_number(value: object) -> TypeGuard[float]:
    """Whether a value of a document is a number."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def _constant(name: str) -> float:
    raise ValueError(f"{name} is no number")
