"""YAML 1.2, core schema, without what makes YAML dangerous: no aliases, anchors, tags or second documents.

PyYAML supplies the events; types are decided here, because PyYAML's are YAML 1.1 (``no`` and ``on`` are truth values
there, ``1e-3`` is text and ``2026-11-22`` a date).
"""

import re
from typing import Any

import yaml

from stem4d.errors import BadInput

_LONGEST_NUMBER = 100
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_NULLS = {"", "~", "null", "Null", "NULL"}
_TRUTHS = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}
_INTEGER = re.compile(r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")
_UNSET = object()
_REMEDIES = {"mapping values are not allowed in this context": "Put text with a colon in quotes, or mend the indent"}


def parse_yaml(text: str, name: str, *, max_depth: int) -> Any:
    """YAML to plain data.

    Raises
    ------
    BadInput
        With file, line and column: not well formed, nested deeper than ``max_depth``, a key given twice, or one of
        the features that are left out.
    """
    builder = _Builder(name, max_depth)
    try:
        for event in yaml.parse(text, Loader=_LOADER):
            builder.take(event)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"{name}:{mark.line + 1}:{mark.column + 1}" if mark else name
        remedy = _REMEDIES.get(error.problem or "", "")
        raise BadInput(field=where, value=error.problem, limit="not well-formed YAML", remedy=remedy) from error
    except yaml.YAMLError as error:
        raise BadInput(field=name, value=str(error).splitlines()[0], limit="not well-formed YAML") from error
    return builder.result


class _Builder:
    """Builds data from events on a stack of its own: the depth of a document never becomes depth of recursion."""

    def __init__(self, name: str, max_depth: int) -> None:
        self._name, self._max_depth = name, max_depth
        self._stack: list[dict[str, Any] | list[Any]] = []
        self._keys: list[Any] = []
        self._documents = 0
        self.result: Any = None

    def take(self, event: yaml.Event) -> None:
        match event:
            case yaml.DocumentStartEvent():
                self._documents += 1
                if self._documents > 1:
                    raise self._refused(event, "a second document", "one document in a file")
            case yaml.AliasEvent():
                raise self._refused(event, f"*{event.anchor}", "aliases are not allowed; write the value out")
            case yaml.ScalarEvent():
                self._no_extras(event)
                self._add(event, self._scalar(event))
            case yaml.MappingStartEvent() | yaml.SequenceStartEvent():
                self._no_extras(event)
                self._open(event, {} if isinstance(event, yaml.MappingStartEvent) else [])
            case yaml.MappingEndEvent() | yaml.SequenceEndEvent():
                self._stack.pop()
                self._keys.pop()

    def _open(self, event: yaml.Event, container: dict[str, Any] | list[Any]) -> None:
        self._add(event, container)
        self._stack.append(container)
        self._keys.append(_UNSET)
        if len(self._stack) > self._max_depth:
            raise self._refused(event, f"nested deeper than {self._max_depth}", f"at most {self._max_depth} levels")

    def _add(self, event: yaml.Event, value: Any) -> None:
        if not self._stack:
            self.result = value
            return
        top = self._stack[-1]
        if isinstance(top, list):
            top.append(value)
        elif self._keys[-1] is not _UNSET:
            top[self._keys[-1]] = value
            self._keys[-1] = _UNSET
        elif not isinstance(value, str):
            raise self._refused(event, value, "a key has to be text")
        elif value in top:
            raise self._refused(event, value, "a key may be given once")
        else:
            self._keys[-1] = value

    def _scalar(self, event: yaml.ScalarEvent) -> Any:
        text = event.value
        if not event.implicit[0]:  # quoted, or a block of text
            return text
        if text in _NULLS:
            return None
        if text in _TRUTHS:
            return _TRUTHS[text]
        number = _INTEGER.fullmatch(text) or _FLOAT.fullmatch(text)
        if number and len(text) > _LONGEST_NUMBER:
            raise self._refused(event, text, f"a number of at most {_LONGEST_NUMBER} characters")
        if _INTEGER.fullmatch(text):
            return int(text, 0) if text[:2] in ("0o", "0x") else int(text)
        return float(text.lower().replace(".inf", "inf").replace(".nan", "nan")) if number else text

    def _no_extras(self, event: yaml.NodeEvent) -> None:
        if event.anchor is not None:
            raise self._refused(event, f"&{event.anchor}", "anchors are not allowed; write the value out")
        if (tag := getattr(event, "tag", None)) is not None:
            raise self._refused(event, tag, "tags are not allowed")

    def _refused(self, event: yaml.Event, value: object, limit: str) -> BadInput:
        mark = event.start_mark
        where = f"{self._name}:{mark.line + 1}:{mark.column + 1}" if mark else self._name
        return BadInput(field=where, value=value, limit=limit)
