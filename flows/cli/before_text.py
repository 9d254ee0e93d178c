"""What is said of the last night of the same name where another begins: its end, what differs, what runs again."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from stem4d.errors import some_of
from stem4d.model import canonical_json, sha256_of

if TYPE_CHECKING:
    from db.resume import NightBefore
    from flows.queue import Queued
    from stem4d.night import Night

SHOWN = 12
"""Hexadecimal digits of a hash that are shown."""


def before_lines(before: "NightBefore", night: "Night", queued: "tuple[Queued, ...]") -> Iterator[str]:
    """A line of how the night before stands, one of what differs where something does, one of what runs again."""
    todo = [one.name for one in before.targets if one.open]
    if todo:
        how = f"was {before.state} with {len(todo)} of {len(before.targets)} targets to do, and does not go on"
    else:
        when = f" at {before.ended:%Y-%m-%d %H:%M} UTC" if before.ended else ""
        how = f"ended{when}: {before.state}"
    yield f"The last night of {night.name} here, {before.name} of {before.started:%Y-%m-%d %H:%M} UTC, {how}."
    if differs := list(_differences(before, night, queued)):
        undo = ". With all as it was, the same command goes on with it" if todo else ""
        yield f"  Since then {'; '.join(differs)}{undo}."
    elif todo:
        yield "  Nothing of it has changed: without --new the same command goes on with it."
    ran = [one for one in before.targets if one.runs]
    names, plans = {one.name for one in ran}, {one.plan_sha256 for one in ran}
    again = [one.target.name for one in queued if one.target.name in names or _hash(one) in plans]
    if again:
        yield f"  This is a new night: of what was run in that one it would expose {some_of(again)} again."
    else:
        yield "  This is a new night, with nothing that was run in that one."


def _differences(before: "NightBefore", night: "Night", queued: "tuple[Queued, ...]") -> Iterator[str]:
    now = sha256_of(canonical_json(night))
    if now != before.sha256:
        yield f"the night's file has changed (SHA-256 of its contents {before.sha256[:SHOWN]}, now {now[:SHOWN]})"
    plans = {one.name: one.plan_sha256 for one in before.targets}
    changed = [one.target.name for one in queued if plans.get(one.target.name) not in (None, _hash(one))]
    if changed:
        yield f"the plan has changed of {some_of(changed)}"
    names = dict.fromkeys(one.target.name for one in queued)
    if added := [name for name in names if name not in plans]:
        yield f"{some_of(added)} came in"
    if gone := [name for name in plans if name not in names]:
        yield f"{some_of(gone)} went out"


def _hash(one: "Queued") -> str:
    return sha256_of(canonical_json(one.plan))
