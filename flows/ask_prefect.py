"""Asks Prefect's API something that may be asked twice: again while it is away, and at last says so in words."""

import time
from collections.abc import Callable
from typing import Any, TypeVar
from urllib.parse import urlsplit

import httpx
from prefect.client.orchestration import get_client
from prefect.settings import (
    PREFECT_API_URL,
    PREFECT_CLIENT_MAX_RETRIES,
    PREFECT_CLIENT_SERVER_VERSION_CHECK_ENABLED,
    temporary_settings,
)

from flows.reached import NoApi
from stem4d.names import plainly

FIRST_WAIT_S, LONGEST_WAIT_S = 0.2, 3.0
REQUEST_S = 10.0
"""For one request; a server that is busy with its database has answered after that."""
WITHIN_S = 3 * REQUEST_S
"""For a question that somebody waits for; one that is silent once is asked again."""
TRY_AGAIN = (408, 429, 500, 502, 503, 504)
"""503 is also Prefect's word for its SQLite being locked just now."""
LONGEST_WORDS = 300

Answer = TypeVar("Answer")


def ask_prefect(question: Callable[[Any], Answer], within_s: float) -> Answer:
    """The answer to a question that is put to a client of the API; asked again for so long while the API is away.

    Raises
    ------
    NoApi
        Where it stays away, or refuses us.
    """
    url = PREFECT_API_URL.value()
    if not url:
        # Prefect would start a server of its own, without a password.
        raise NoApi("there is no Prefect API to ask: PREFECT_API_URL names none")
    deadline, wait_s = time.monotonic() + within_s, FIRST_WAIT_S
    while True:
        try:
            return _ask_once(question)
        except httpx.HTTPStatusError as error:
            status = error.response.status_code
            if status == 401:
                words = f"Prefect's API at {_place(url)} wants a password: set PREFECT_API_AUTH_STRING"
                raise NoApi(words) from None
            trouble = f"answers {status} ({said_of(error.response)})"
            if status not in TRY_AGAIN:
                raise NoApi(f"Prefect's API at {_place(url)} {trouble}") from None
        except httpx.TransportError as error:
            trouble = f"does not answer ({type(error).__name__})"
        except (ValueError, httpx.InvalidURL) as error:
            # Something else answers there, as a proxy's page does.
            raise NoApi(f"what answers at {_place(url)} is no Prefect API ({type(error).__name__})") from None
        if time.monotonic() + wait_s > deadline:
            raise NoApi(f"Prefect's API at {_place(url)} {trouble}, tried for {within_s:g} s")
        time.sleep(wait_s)
        wait_s = min(2 * wait_s, LONGEST_WAIT_S)


def _ask_once(question: Callable[[Any], Answer]) -> Answer:
    # Its client's own retries wait for up to half a minute; and which version answers was found out by others.
    ours = {PREFECT_CLIENT_MAX_RETRIES: 0, PREFECT_CLIENT_SERVER_VERSION_CHECK_ENABLED: False}
    with temporary_settings(ours), get_client(sync_client=True, httpx_settings={"timeout": REQUEST_S}) as client:
        return question(client)


def said_of(response: httpx.Response) -> str:
    """What an answer says is wrong, for a person."""
    try:
        detail = response.json()["detail"]
    except (ValueError, KeyError, TypeError, RecursionError):
        detail = response.reason_phrase
    return plainly(detail if isinstance(detail, str) else response.reason_phrase)[:LONGEST_WORDS]


def _place(url: str) -> str:
    """Where an API is, without a password that its address may hold."""
    try:
        parts = urlsplit(url)
        return f"{parts.hostname}:{parts.port}" if parts.port else f"{parts.hostname}"
    except ValueError:
        return "an address that is none"
