"""One thing that was looked at, and what to do where it is not well."""

from collections.abc import Iterator
from typing import NamedTuple, Protocol

from storage.settings import Settings


class Line(NamedTuple):
    """One thing looked at."""

    what: str
    ok: bool
    found: str
    fix: str = ""

    @property
    def text(self) -> str:
        """For a person."""
        return f"{'ok ' if self.ok else 'BAD'}  {self.what}: {self.found}{'' if self.ok else f'. {self.fix}'}"


class Look(Protocol):
    """Looks at some things."""

    def __call__(self, settings: Settings, /) -> Iterator[Line]:
        """A line for each."""
        ...
