"""Which Prefect API a command talks to: the one that the environment names, or that of a server of this home."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from flows.api import client_of, noted_api
from stem4d.errors import NightbeamError


class NoApi(NightbeamError):
    """There is no Prefect API, or it does not answer, or does not take what it is asked."""


@contextmanager
def reached(home: Path) -> Iterator[None]:
    """Make this process a client of the API for the length of the block.

    Raises
    ------
    NoApi
        Where the environment names none, and none answers for this home.
    """
    if os.environ.get("PREFECT_API_URL"):
        yield
        return
    api = noted_api(home)
    if api is None:
        raise NoApi(
            f"there is no Prefect API to ask: PREFECT_API_URL names none, and no server runs on {home}. "
            "Start `nightbeam serve` there, or set PREFECT_API_URL"
        )
    with client_of(api):
        yield
