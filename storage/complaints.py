"""Says in plain words what pydantic found wrong: field, value, limit, unit, and what to do."""

import difflib
from collections.abc import Callable
from typing import Any, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from stem4d.errors import BadInput, Inconsistent
from stem4d.names import NAME_PATTERN
from storage.units import unit_of

TOLD = 4
"""How many mistakes a message lists."""
_SECRET = ("url", "secret", "password", "token", "notif")


def explained(error: ValidationError, model: type[BaseModel], name: str) -> BadInput:
    """One ``BadInput`` for what pydantic found: the first mistake in full, the next ones in the remedy."""
    mistakes = error.errors(include_url=False)
    places = [details["loc"] for details in mistakes]
    first, *others = [_one(details, model) for details in mistakes if not _echo(details, places)]
    told = [str(other) for other in others[: TOLD - 1]]
    if len(others) > len(told):
        told.append(f"{len(others) - len(told)} more")
    remedy = "; also ".join([first.remedy, *told])
    return BadInput(
        field=f"{name}: {first.field}" if first.field else name,
        value=first.value,
        limit=first.limit,
        unit=first.unit,
        remedy=remedy,
    )


def _echo(details: ErrorDetails, places: list[tuple[int | str, ...]]) -> bool:
    """A list is also called too short when its only items are wrong; that is no second mistake."""
    own = details["loc"]
    return details["type"] == "too_short" and any(place[: len(own)] == own != place for place in places)


def _one(details: ErrorDetails, model: type[BaseModel]) -> BadInput:
    kind, context, value = details["type"], details.get("ctx", {}), details["input"]
    field, known = _place(model, details["loc"])
    if kind == "missing":
        return BadInput(field=field, value="nothing", limit="is required", unit=unit_of(field), remedy=f"Add {field}")
    if kind in ("union_tag_invalid", "union_tag_not_found"):
        discriminator = context["discriminator"].strip("'")
        field, value = f"{field}.{discriminator}", context.get("tag", "nothing")
    if any(word in field.lower() for word in _SECRET):
        value = "(hidden)"
    if isinstance(inner := context.get("error"), Inconsistent):
        field = f"{field}.{inner.field}" if field else inner.field
        return BadInput(field=field, value=inner.value, limit=inner.limit, remedy=inner.remedy)
    if kind == "extra_forbidden":
        near = difflib.get_close_matches(str(details["loc"][-1]), known, 1, 0.5)
        remedy = f"Did you mean {near[0]}?" if near else f"Known here: {', '.join(sorted(known))}"
        return BadInput(field=field, value=value, limit="is not a known name", remedy=remedy)
    words, remedy = _WORDS.get(kind, (lambda _: details["msg"].removeprefix("Value error, "), "Correct it"))
    return BadInput(field=field, value=value, limit=words(context), unit=unit_of(field), remedy=remedy)


def _place(model: type[BaseModel], location: tuple[int | str, ...]) -> tuple[str, set[str]]:
    """The dotted name of a place in a document, and the names that are known there.

    pydantic's location also names the branch of a union that it took; a person's does not.
    """
    field, here, known = "", {model}, set(model.model_fields)
    for index, part in enumerate(location):
        if isinstance(part, int):
            field += f"[{part}]"
            continue
        owners = {owner for owner in here if part in owner.model_fields}
        branches = {owner for owner in here if _tagged(owner, part)}
        last = index == len(location) - 1
        if branches and not owners and not last:
            here = branches
            continue
        if owners or not here or last:
            field += f".{part}" if field else part
            known = {name for owner in here for name in owner.model_fields}
            here = {inner for owner in owners for inner in _models_in(owner.model_fields[part].annotation)}
    return field, known


def _tagged(model: type[BaseModel], tag: str) -> bool:
    return any(tag in get_args(field.annotation) for field in model.model_fields.values())


def _models_in(annotation: object) -> set[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return {annotation}
    return {model for part in get_args(annotation) for model in _models_in(part)}


def _name_or_pattern(context: dict[str, Any]) -> str:
    if context["pattern"] == NAME_PATTERN:
        return "has to be a name of letters, digits, dot, dash and underscore, at most 64, not ending in a dot"
    return f"has to match {context['pattern']}"


_Words = Callable[[dict[str, Any]], str]
_NUMBER = "Write a number without quotes"
_TIME: tuple[_Words, str] = (lambda _: "has to be a date with time and zone", "Write it as 2026-03-02T05:30:00+01:00")
_WORDS: dict[str, tuple[_Words, str]] = {
    "greater_than": (lambda c: f"has to be more than {c['gt']:g}", "Raise it"),
    "greater_than_equal": (lambda c: f"has to be at least {c['ge']:g}", "Raise it"),
    "less_than": (lambda c: f"has to be less than {c['lt']:g}", "Lower it"),
    "less_than_equal": (lambda c: f"has to be at most {c['le']:g}", "Lower it"),
    "finite_number": (lambda _: "has to be a finite number", "Give a finite number"),
    "float_type": (lambda _: "has to be a number", _NUMBER),
    "int_type": (lambda _: "has to be a whole number", "Write it without quotes and fraction"),
    "bool_type": (lambda _: "has to be true or false", "Write true or false"),
    "string_type": (lambda _: "has to be text", "Put it in quotes"),
    "tuple_type": (lambda _: "has to be a list", "Write it as [a, b]"),
    "model_type": (lambda _: "has to be a mapping of names to values", "Indent its names below it"),
    "datetime_type": _TIME,
    "datetime_parsing": _TIME,
    "datetime_from_date_parsing": _TIME,
    "datetime_object_invalid": _TIME,
    "timezone_aware": _TIME,
    "literal_error": (lambda c: f"has to be {c['expected']}", "Choose one of these"),
    "enum": (lambda c: f"has to be {c['expected']}", "Choose one of these"),
    "union_tag_invalid": (lambda c: f"has to be one of {c['expected_tags']}", "Choose one of these"),
    "union_tag_not_found": (lambda _: "is required", "Say which kind it is"),
    "string_pattern_mismatch": (_name_or_pattern, "Choose another name"),
    "string_too_long": (lambda c: f"has to have at most {c['max_length']} characters", "Shorten it"),
    "too_short": (lambda c: f"needs at least {c['min_length']} items", "Add to it"),
    "too_long": (lambda c: f"takes at most {c['max_length']} items", "Remove some"),
}
