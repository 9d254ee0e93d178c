"""Says whether values are plain JSON that every receiver reads alike, and that none takes for more than values."""

import math
from collections.abc import Mapping

from stem4d.errors import BadInput
from storage.parse import MAX_DEPTH

LARGEST_WHOLE = 2**53
"""Beyond it programs round a whole number, each in its own way."""
_OF_PREFECT = "__prefect"
"""How a key begins with which Prefect marks a template, or a variable of its own, to be filled in by its server."""


def refuse_unsound(value: object, field: str) -> None:
    """Raise ``BadInput``, naming the place, for the first value that is no plain JSON.

    Refused are numbers that are not finite or too large to be exact, text that is no Unicode or holds NUL, nesting
    deeper than 20, and keys that Prefect's server would fill in: who may set a value may not read its variables.
    """
    todo: list[tuple[str, object, int]] = [(field, value, 0)]
    while todo:
        place, one, depth = todo.pop()
        if depth > MAX_DEPTH:
            raise BadInput(field=field, value="nested deeper", limit=f"at most {MAX_DEPTH} levels")
        match one:
            case None | bool():
                pass
            case str():
                _sound_text(place, one)
            case int():
                if abs(one) > LARGEST_WHOLE:
                    limit = f"a whole number lies within ±{LARGEST_WHOLE}"
                    raise BadInput(field=place, value=f"{len(hex(one)) - 2} digits", limit=limit)
            case float():
                if not math.isfinite(one):
                    raise BadInput(field=place, value=one, limit="has to be a finite number")
            case list() | tuple():
                todo += [(f"{place}[{index}]", item, depth + 1) for index, item in enumerate(one)]
            case Mapping():
                for key in one:
                    if not isinstance(key, str):
                        raise BadInput(field=place, value=key, limit="names have to be text")
                    _sound_text(f"{place}: a name", key)
                    if key.startswith(_OF_PREFECT):
                        raise BadInput(field=place, value=key, limit="this name is Prefect's own")
                todo += [(f"{place}.{key}", item, depth + 1) for key, item in one.items()]
            case _:
                raise BadInput(field=place, value=type(one).__name__, limit="JSON has no such values")


def _sound_text(place: str, text: str) -> None:
    if "\0" in text:
        raise BadInput(field=place, value=text, limit="text may not hold NUL")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise BadInput(field=place, value=text, limit="has to be whole Unicode (UTF-8)") from None
