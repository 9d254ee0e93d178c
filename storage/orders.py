"""Orders to a running night as files beside its instrument's lock: one file an order, one an answer; and its status.

The one who asks writes an order whole or not at all; only the owner of the instrument takes one away, after it has
answered. Nothing waits for a lock, so neither side can hold up the other.
"""

import json
import os
import re
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, TypeVar

from pydantic import ValidationError, field_validator

from stem4d.errors import BadInput
from stem4d.model import Name, Strict
from stem4d.names import plainly
from storage.disk import ordinary_bytes, replace_text

Kind = Literal["pause", "resume", "skip", "stop", "stop_now"]
GOING = ("running", "paused", "waiting")
"""States in the status of a night that has not ended."""
SINGLE_RUN = "single run"
"""State in the status of a run that is of no night, which takes no orders."""

LARGEST_BYTES = 4096
LARGEST_STATUS = 2**20
MOST_ORDERS = 100
"""Orders that are looked at in one go; nobody types faster."""
KEPT_ANSWERS = 50
_ID = re.compile(r"^[0-9]{8}-[0-9]{12}-[0-9a-f]{8}$")

Model = TypeVar("Model", bound=Strict)


class Order(Strict):
    """What a person wants of the night that runs."""

    id: Name
    kind: Kind
    target: Name | None = None
    """Of ``skip``."""
    by: str = ""
    """User and process that asked; shown and recorded, so that nothing of it can pass for a line of ours."""

    @field_validator("by")
    @classmethod
    def _shown(cls, by: str) -> str:
        return plainly(by)


class Answer(Strict):
    """What became of an order."""

    id: Name
    ok: bool
    words: str


def ask(folder: Path, kind: Kind, *, target: str | None = None, by: str = "") -> Order:
    """Leave an order for the night that runs on the instrument of a folder.

    Raises
    ------
    BadInput
        For a target that is no name.
    """
    made = f"{datetime.now(UTC):%Y%m%d-%H%M%S%f}-{os.urandom(4).hex()}"
    try:
        order = Order(id=made, kind=kind, target=target, by=by)
    except ValidationError:
        raise BadInput(field="TARGET", value=target, limit="the name of a target of the night") from None
    _write(folder / "orders" / f"{order.id}.json", order)
    return order


def waiting(folder: Path) -> tuple[Order, ...]:
    """Orders not yet answered, oldest first; a file that is none is put aside."""
    found = []
    for path in _listed(folder / "orders")[:MOST_ORDERS]:
        order = _read(path, Order)
        if order is None or order.id != path.stem:
            with suppress(OSError):
                os.replace(path, path.with_suffix(".unreadable"))
            continue
        found.append(order)
    return tuple(found)


def answer(folder: Path, order: Order, *, ok: bool, words: str) -> None:
    """Tell the one who asked what became of an order, and take the order away."""
    _write(folder / "answers" / f"{order.id}.json", Answer(id=order.id, ok=ok, words=words))
    with suppress(FileNotFoundError):
        (folder / "orders" / f"{order.id}.json").unlink()
    for old in _listed(folder / "answers")[:-KEPT_ANSWERS]:
        with suppress(OSError):
            old.unlink()


def answer_to(folder: Path, order: Order) -> Answer | None:
    """The answer to an order; None while there is none."""
    return _read(folder / "answers" / f"{order.id}.json", Answer)


def withdraw(folder: Path, order: Order) -> bool:
    """Take an order back that nobody has answered; gives whether it was still there."""
    try:
        (folder / "orders" / f"{order.id}.json").unlink()
    except FileNotFoundError:
        return False
    return True


def write_status(folder: Path, facts: dict[str, Any]) -> None:
    """Replace what can be read of how the night stands."""
    replace_text(folder / "status.json", json.dumps(facts, allow_nan=False, default=str))


def read_status(folder: Path) -> dict[str, Any] | None:
    """How the night stands, or stood when it ended; None where none was run, or what is there cannot be read."""
    try:
        facts = json.loads(ordinary_bytes(folder / "status.json", LARGEST_STATUS))
    except (OSError, ValueError, RecursionError):
        return None
    return facts if isinstance(facts, dict) else None


def _listed(folder: Path) -> list[Path]:
    try:
        return sorted(path for path in folder.iterdir() if path.suffix == ".json" and _ID.match(path.stem))
    except OSError:
        # Also a folder that is a link to itself, or may not be read: no order ends a night by the way it lies there.
        return []


def _read(path: Path, model: type[Model]) -> Model | None:
    try:
        return model.model_validate_json(ordinary_bytes(path, LARGEST_BYTES))
    except (OSError, ValidationError):
        return None


def _write(path: Path, model: Strict) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    replace_text(path, model.model_dump_json())
