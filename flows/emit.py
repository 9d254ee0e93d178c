"""Tells Prefect of what happens at an instrument, in few checked words: sample loaded, beam ready, file written."""

import difflib
import re
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

from flows.ask_prefect import WITHIN_S, ask_prefect
from flows.emitted import event_id, resource_of
from stem4d.errors import BadInput
from stem4d.names import NAME_PATTERN

EVENTS = ("nightbeam.sample.loaded", "nightbeam.beam.ready", "nightbeam.file.written")
MOST_FACTS, LONGEST_FACT = 20, 1000
_FACT = re.compile(r"[a-z][a-z0-9_]{0,63}")


def emit(event: str, name: str, facts: tuple[str, ...] = (), key: str | None = None) -> dict[str, str]:
    """Tell of an event of an instrument; gives its full name and its id.

    ``facts`` are NAME=TEXT and come as the event's payload; with the same ``key`` it has the same id.

    Raises
    ------
    BadInput
        For an event that is not ours to tell, a name that is none, and facts that are not NAME=TEXT.
    NoApi
        Where Prefect's API does not take it.
    """
    full = event if event in EVENTS else f"nightbeam.{event}"
    if full not in EVENTS:
        near = difflib.get_close_matches(full, EVENTS, 1, 0.5)
        remedy = f"Did you mean {near[0].removeprefix('nightbeam.')}?" if near else ""
        known = ", ".join(one.removeprefix("nightbeam.") for one in EVENTS)
        raise BadInput(field="EVENT", value=event, limit=f"one of {known}", remedy=remedy)
    if not re.fullmatch(NAME_PATTERN, name):
        raise BadInput(field="--instrument", value=name, limit="the name of an instrument")
    told = event_id(full, key) if key is not None else uuid4()
    document = {
        "id": str(told),
        "event": full,
        "occurred": datetime.now(UTC).isoformat(),
        "resource": {"prefect.resource.id": resource_of(name), "prefect.resource.name": name},
        "payload": {**_read(facts), "instrument": name},
    }
    ask_prefect(lambda client: client.request("POST", "/events", json=[document]), WITHIN_S)
    return {"event": full, "id": str(told)}


def _read(facts: tuple[str, ...]) -> dict[str, Any]:
    read: dict[str, Any] = {}
    if len(facts) > MOST_FACTS:
        raise BadInput(field="--payload", value=f"{len(facts)} facts", limit=f"at most {MOST_FACTS}")
    for fact in facts:
        name, equals, text = fact.partition("=")
        if not equals or not _FACT.fullmatch(name):
            limit = "is written as NAME=TEXT; a name of lower-case letters, digits and underscores"
            raise BadInput(field="--payload", value=fact, limit=limit)
        if name in read or name == "instrument":
            raise BadInput(field="--payload", value=fact, limit="is said already", remedy="Leave one out")
        if len(text) > LONGEST_FACT or not text.isprintable():
            raise BadInput(field="--payload", value=fact, limit=f"at most {LONGEST_FACT} printable characters")
        read[name] = text
    return read
