"""Loads plans, nights and instruments: a small document on disk into a strict model."""

import json
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, ValidationError

from stem4d.errors import BadInput
from storage.complaints import explained
from storage.parse import MAX_DEPTH, read_document
from storage.yaml12 import parse_yaml

Model = TypeVar("Model", bound=BaseModel)


def load_model(path: Path, model: type[Model], changes: Iterable[str] = ()) -> Model:
    """Read a document, change it, and validate it.

    Parameters
    ----------
    path : Path
        A ``.yaml``, ``.yml``, ``.toml`` or ``.json`` file.
    model : type
        A ``stem4d.model.Strict``.
    changes : iterable of str
        Such as ``optics.defocus_nm=20`` or ``scan.shape=[64, 64]``; values are YAML, list items go by number.

    Raises
    ------
    BadInput
        The document cannot be read, is of a newer ``format_version``, or does not describe a ``model``: names the
        dotted field, the value, the limit in words, the unit, and what to do; further mistakes follow in the remedy.
    """
    return validate(changed(read_document(path), changes), model, path.name)


def changed(data: Any, changes: Iterable[str]) -> Any:
    """The same data with changes such as ``optics.defocus_nm=20``; `BadInput` for one that is none."""
    for change in changes:
        _apply(data, change)
    return data


def validate(data: object, model: type[Model], name: str) -> Model:
    """The same for data that have been read already; ``name`` says where from."""
    if not isinstance(data, dict):
        raise BadInput(field=name, value=data, limit="has to be a mapping of names to values")
    _check_version(data, model, name)
    _check_sort(data, model, name)
    try:
        # By way of JSON: lists may then stand for tuples and texts for enums, while all else stays strict.
        return model.model_validate_json(json.dumps(data), strict=True)
    except ValidationError as error:
        raise explained(error, model, name) from None


_SORTS = {
    "Plan": ("a plan", {"sample", "optics", "scan"}, "Give it with --plan, or as the argument that is a plan"),
    "InstrumentFile": ("an instrument file", {"driver", "facts"}, "Give it with --instrument (-i)"),
    "Night": ("a night", {"targets", "instrument"}, "Give it to `nightbeam night`"),
}
"""By model: what a document of it is, the names that only it has, and where it belongs."""


def _check_sort(data: dict[str, Any], model: type[BaseModel], name: str) -> None:
    """A whole document of another sort is one mistake, not one for each of its names."""
    wanted = _SORTS.get(model.__name__)
    if wanted is None or wanted[1] & data.keys():
        return
    for what, marks, remedy in _SORTS.values():
        if marks <= data.keys():
            raise BadInput(field=name, value=what, limit=f"this is {what}, and {wanted[0]} is wanted", remedy=remedy)


def _apply(data: Any, change: str) -> None:
    dotted, equals, text = change.partition("=")
    names = dotted.strip().split(".")
    if not equals or not all(names):
        raise BadInput(field="change", value=change, limit="has to read NAME.NAME=VALUE")
    node = data
    for name in names[:-1]:
        node = node.setdefault(name, {}) if isinstance(node, dict) else _item(node, name, change)
    value = parse_yaml(text, dotted, max_depth=MAX_DEPTH)
    if isinstance(node, dict):
        node[names[-1]] = value
    else:
        _item(node, names[-1], change)
        node[int(names[-1])] = value


def _item(node: Any, name: str, change: str) -> Any:
    if not isinstance(node, list) or not name.isdecimal() or int(name) >= len(node):
        raise BadInput(field="change", value=change, limit=f"there is no {name!r} to change")
    return node[int(name)]


def _check_version(data: dict[str, Any], model: type[BaseModel], name: str) -> None:
    field = model.model_fields.get("format_version")
    known = max((number for number in get_args(field.annotation) if isinstance(number, int)), default=0) if field else 0
    found = data.get("format_version")
    if known and isinstance(found, int) and found > known:
        try:
            installed = version("nightbeam")
        except PackageNotFoundError:
            installed = "this one"
        raise BadInput(
            field=f"{name}: format_version",
            value=found,
            limit=f"up to {known} is understood",
            remedy=f"Install a nightbeam newer than {installed}",
        )
