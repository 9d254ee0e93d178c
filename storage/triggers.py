"""What may start a deployment from outside, as the settings name it: watched folders, and hooks of the web."""

from collections.abc import Collection
from pathlib import Path
from typing import Annotated

from pydantic import Field, JsonValue, StringConstraints, field_validator

from stem4d.errors import Inconsistent
from stem4d.model import Name, Strict
from storage.plain_json import refuse_unsound

_PART = "[A-Za-z0-9_](?:[A-Za-z0-9 ._-]{0,98}[A-Za-z0-9_-])?"
DEPLOYMENT_PATTERN = f"^{_PART}/{_PART}$"
Deployment = Annotated[str, StringConstraints(pattern=DEPLOYMENT_PATTERN)]
"""``flow/name`` of a Prefect deployment, as ``reanalyse/reanalyse``; nothing in it means something in an address."""
RESERVED = ("source", "key")
"""Parameters of every deployment that say what started it: ours to set."""
MOST = 50
"""Folders, and hooks; each folder has a thread."""


class Started(Strict):
    """What is started, whoever asks."""

    deployment: Deployment
    parameters: dict[str, JsonValue] = Field(default_factory=dict)
    """Of the deployment, beside those that it has by itself."""

    @field_validator("parameters")
    @classmethod
    def _plain(cls, parameters: dict[str, JsonValue]) -> dict[str, JsonValue]:
        refuse_unsound(parameters, "parameters")
        _not_ours(parameters)
        return parameters


class Watch(Started):
    """A folder in which each new file starts a deployment; ``{path}`` in its parameters stands for that file."""

    folder: Annotated[Path, Field(strict=False)]
    pattern: Annotated[str, StringConstraints(pattern=r"^[^/\x00]{1,200}$")] = "*"
    """Names of files, with * ? [..] as in a shell; those in subfolders are not looked at."""
    settle_s: Annotated[float, Field(ge=0, le=86_400)] = 10.0
    """How long size and time of a file have not changed when it counts as whole [s]."""
    existing: bool = False
    """Whether files count that were there when the folder was first watched."""

    @field_validator("folder")
    @classmethod
    def _whole(cls, folder: Path) -> Path:
        whole = folder.expanduser()
        if not whole.is_absolute():
            raise ValueError("has to be a whole path: it is watched from wherever the command is started")
        return whole


class Hook(Started):
    """A name under ``/hooks/`` at which a program starts a deployment."""

    name: Name
    allow: Annotated[tuple[str, ...], Field(strict=False, max_length=100)] = ()
    """Parameters that the caller may set; others are refused."""

    @field_validator("allow")
    @classmethod
    def _theirs(cls, allow: tuple[str, ...]) -> tuple[str, ...]:
        _not_ours(allow)
        return allow


def _not_ours(names: Collection[str]) -> None:
    for name in RESERVED:
        if name in names:
            raise Inconsistent(name, name, "is set by nightbeam itself", "Leave it out")
