"""Asks Prefect's API a few things by HTTP: loading Prefect itself takes a second that a look does not need."""

import base64
import json
import urllib.error
import urllib.request
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

WITHIN_S = 5.0


class NoAnswer(Exception):
    """The server does not answer, or not as it should."""


@dataclass(frozen=True)
class Asked:
    """A server, and the ``user:password`` that it is shown."""

    url: str
    auth: str = field(repr=False)

    @property
    def shown(self) -> str:
        """Its address, without a password that stands in it."""
        parts = urlsplit(self.url)
        return f"{parts.scheme}://{parts.hostname}{f':{parts.port}' if parts.port else ''}{parts.path}"

    def get(self, path: str) -> Any:
        """What it answers; raises `NoAnswer`."""
        return self._ask(path, None)

    def post(self, path: str, question: object) -> Any:
        """The same of a question."""
        return self._ask(path, json.dumps(question).encode())

    def admits(self, path: str) -> bool:
        """Whether it answers at all what it is shown."""
        try:
            self.get(path)
        except NoAnswer:
            return False
        return True

    def _ask(self, path: str, body: bytes | None) -> Any:
        try:
            request = urllib.request.Request(f"{self.url}{path}", body, {"Content-Type": "application/json"})  # noqa: S310
            if self.auth:
                request.add_header("Authorization", f"Basic {base64.b64encode(self.auth.encode()).decode()}")
            with urllib.request.urlopen(request, timeout=WITHIN_S) as answer:  # noqa: S310 - the user's own server
                return json.load(answer)
        except urllib.error.HTTPError as error:
            words = "wants another PREFECT_API_AUTH_STRING" if error.code == 401 else f"answers {error.code}"
            raise NoAnswer(f"{self.shown} {words}") from None
        except (OSError, ValueError) as error:
            raise NoAnswer(f"{self.shown} does not answer: {error}") from None
