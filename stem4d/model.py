"""The strict base of every model, its unit-carrying number types, and the names that may become paths."""

import hashlib
import json
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from stem4d.names import NAME_PATTERN

Positive = Annotated[float, Field(gt=0)]
NonNegative = Annotated[float, Field(ge=0)]
Count = Annotated[int, Field(ge=1)]
Name = Annotated[str, StringConstraints(pattern=NAME_PATTERN)]
"""A name that is safe as a file name: letters, digits, dot, dash, underscore; at most 64, not ending in a dot."""
Title = Annotated[str, StringConstraints(max_length=200)]
"""Free text for people. Never used in a path."""


class Strict(BaseModel):
    """Frozen, closed to unknown keys, no coercion, no NaN or infinity."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class Range(Strict):
    """An allowed range, both ends included."""

    lowest: float
    highest: float

    def holds(self, value: float) -> bool:
        """Whether a value lies inside."""
        return self.lowest <= value <= self.highest

    def __str__(self) -> str:
        return f"{self.lowest:g} to {self.highest:g}"


def canonical_json(model: BaseModel) -> str:
    """The one JSON text of a model: sorted keys, no white space, all defaults written out."""
    document: Any = model.model_dump(mode="json")
    return json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)


def sha256_of(text: str) -> str:
    """Hex SHA-256 of a text in UTF-8."""
    return hashlib.sha256(text.encode()).hexdigest()
