"""Reads YAML, TOML and JSON texts into plain data, within limits that no honest plan comes near."""

import json
import os
import tomllib
from collections.abc import Callable
from datetime import date, time
from pathlib import Path
from typing import Any

from stem4d.errors import BadInput
from storage.toml_keys import has_key_longer_than
from storage.yaml12 import parse_yaml

MAX_BYTES = 256 * 1024
MAX_DEPTH = 20


def read_document(path: Path) -> Any:
    """Read a ``.yaml``, ``.yml``, ``.toml`` or ``.json`` file.

    Raises
    ------
    BadInput
        Not such a file, larger than 256 KiB, nested deeper than 20, not UTF-8, a key given twice, or not well formed;
        with line and column where they are known.
    """
    parse = _PARSERS.get(path.suffix.lower())
    if parse is None:
        raise BadInput(field=path.name, value=path.suffix, limit="has to end in " + ", ".join(_PARSERS))
    return parse(read_text(path), path.name)


def read_text(path: Path) -> str:
    """The text of a small UTF-8 file."""
    # os.path answers no where pathlib would raise: a name that is too long, for one.
    if not os.path.isfile(path):
        what = "is not an ordinary file" if os.path.exists(path) else "there is no such file"
        raise BadInput(field="file", value=str(path), limit=what)
    try:
        with path.open("rb") as stream:
            content = stream.read(MAX_BYTES + 1)
    except OSError as error:
        raise BadInput(field="file", value=str(path), limit=error.strerror or "not readable") from error
    if len(content) > MAX_BYTES:
        raise BadInput(field=path.name, value=f"more than {MAX_BYTES:,} B", limit=f"at most {MAX_BYTES:,} B", unit="")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise BadInput(
            field=f"{path.name}:{line}", value=content[error.start : error.start + 4], limit="text has to be UTF-8"
        ) from error


def parse_toml(text: str, name: str) -> Any:
    """TOML to plain data; dates become text, as in YAML."""
    if has_key_longer_than(text, MAX_DEPTH):
        raise BadInput(field=name, value="a key of many parts", limit=f"at most {MAX_DEPTH} levels")
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise BadInput(field=name, value=str(error), limit="not well-formed TOML") from error
    except (RecursionError, ValueError) as error:
        raise BadInput(field=name, value=str(error), limit="numbers and nesting within reason") from error
    _check_depth(data, name)
    return _plain(data)


def parse_json(text: str, name: str) -> Any:
    """JSON to plain data; NaN, infinity and keys given twice are refused."""

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        mapping = dict(pairs)
        if len(mapping) < len(pairs):
            keys = [key for key, _ in pairs]
            twice = next(key for key in keys if keys.count(key) > 1)
            raise BadInput(field=name, value=twice, limit="a key may be given once")
        return mapping

    def constant(word: str) -> Any:
        raise BadInput(field=name, value=word, limit="numbers have to be finite")

    try:
        data = json.loads(text, object_pairs_hook=unique, parse_constant=constant)
    except json.JSONDecodeError as error:
        where = f"{name}:{error.lineno}:{error.colno}"
        raise BadInput(field=where, value=error.msg, limit="not well-formed JSON") from error
    except (RecursionError, ValueError) as error:
        raise BadInput(field=name, value=str(error), limit="numbers and nesting within reason") from error
    _check_depth(data, name)
    return data


def _check_depth(data: Any, name: str) -> None:
    level = [data]
    for _ in range(MAX_DEPTH + 1):
        level = [item for node in level if isinstance(node, dict | list) for item in _items(node)]
        if not level:
            return
    raise BadInput(field=name, value=f"nested deeper than {MAX_DEPTH}", limit=f"at most {MAX_DEPTH} levels")


def _items(node: dict[str, Any] | list[Any]) -> list[Any]:
    return list(node.values()) if isinstance(node, dict) else node


def _plain(data: Any) -> Any:
    if isinstance(data, dict):
        return {key: _plain(value) for key, value in data.items()}
    if isinstance(data, list):
        return [_plain(value) for value in data]
    return data.isoformat() if isinstance(data, date | time) else data


def _yaml(text: str, name: str) -> Any:
    return parse_yaml(text, name, max_depth=MAX_DEPTH)


_PARSERS: dict[str, Callable[[str, str], Any]] = {
    ".yaml": _yaml,
    ".yml": _yaml,
    ".toml": parse_toml,
    ".json": parse_json,
}
