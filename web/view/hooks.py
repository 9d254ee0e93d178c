"""The hooks: a program that shows their token starts a deployment by POST /hooks/NAME. Everything else only reads."""

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Protocol

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse
from pydantic import Field, JsonValue, ValidationError
from starlette.requests import ClientDisconnect

from stem4d.errors import BadInput, NightbeamError, some_of
from stem4d.model import Strict
from storage.complaints import explained
from storage.parse import parse_json
from storage.plain_json import refuse_unsound
from storage.settings import Settings
from storage.triggers import Hook
from web.view.guard import Guard, refuse_guessable, single

router = APIRouter()

LARGEST_BODY = 64 * 1024
BODY_WITHIN_S = 10.0
MOST_A_MINUTE = 60
"""Of one hook."""
MOST_AT_ONCE = 4
"""Of all hooks together; their threads are their own, so that pages do not wait for them."""
LONGEST_KEY = 200


class Submit(Protocol):
    """Asks for a run of a deployment: `flows.submit.submit`, which this package may not know."""

    def __call__(self, deployment: str, parameters: dict[str, Any], *, source: Any, key: str) -> str:
        """The flow run's id; the same key gives the same."""


class Asked(Strict):
    """The body of a request."""

    key: str | None = None
    """What makes it one and the same however often it is sent; in the header Idempotency-Key otherwise."""
    parameters: dict[str, JsonValue] = Field(default_factory=dict)


@dataclass
class Hooks:
    """The hooks of a server while it runs."""

    by_name: dict[str, Hook]
    submit: Submit
    clock: Callable[[], float] = time.monotonic
    threads: ThreadPoolExecutor = field(
        default_factory=lambda: ThreadPoolExecutor(MOST_AT_ONCE, thread_name_prefix="nightbeam-hook")
    )
    busy: int = 0
    _times: dict[str, deque[float]] = field(default_factory=dict)

    def too_often(self, name: str) -> float:
        """After how long a hook may be asked again [s]; 0 for now, which is counted."""
        times, now = self._times.setdefault(name, deque()), self.clock()
        while times and now - times[0] >= 60:
            times.popleft()
        if len(times) >= MOST_A_MINUTE:
            return 60 - (now - times[0])
        times.append(now)
        return 0.0


def hook_token(settings: Settings, guard: Guard) -> str | None:
    """The token of the hooks of the settings; None where there is none, and so no hook.

    Raises
    ------
    BadInput
        For a token that could be guessed, or that opens the pages as well.
    """
    if settings.hook_token is None:
        return None
    token = settings.hook_token.get_secret_value()
    refuse_guessable("hook_token", token)
    if guard.knows(token):
        limit = "has to be another one than web_token: who may read may not start anything"
        raise BadInput(field="hook_token", value="(hidden)", limit=limit)
    return token


def said_of_hooks(settings: Settings) -> str:
    """What is to be said of the hooks when a server starts; nothing where the settings name none."""
    names = some_of(hook.name for hook in settings.hooks)
    if settings.hooks and settings.hook_token is None:
        return f"hooks: none is answered without a token (NIGHTBEAM_HOOK_TOKEN); the settings name {names}"
    return f"hooks: POST /hooks/NAME with the token starts {names}" if settings.hooks else ""


@router.post("/hooks/{name}")
async def started(request: Request, name: str) -> JSONResponse:
    """Start what a hook stands for. The guard has seen the token."""
    hooks: Hooks = request.app.state.hooks
    hook = hooks.by_name.get(name)
    if hook is None:
        return _no(404, "there is no such hook")
    if wait_s := hooks.too_often(name):
        return _no(429, f"at most {MOST_A_MINUTE} a minute", after_s=int(wait_s) + 1)
    if hooks.busy >= MOST_AT_ONCE:
        return _no(503, "busy with others", after_s=2)
    hooks.busy += 1
    try:
        return await _answer(hooks, hook, request)
    finally:
        hooks.busy -= 1


async def _answer(hooks: Hooks, hook: Hook, request: Request) -> JSONResponse:
    if wrong := _not_plain_json(request):
        return wrong
    try:
        async with asyncio.timeout(BODY_WITHIN_S):
            body = await _body(request)
    except TimeoutError:
        return _no(408, f"the body did not come within {BODY_WITHIN_S:g} s")
    except ClientDisconnect:
        return _no(400, "the body did not come")
    if body is None:
        return _no(413, f"at most {LARGEST_BODY:,} bytes")
    try:
        key, parameters = _read(hook, body, request.headers.getlist("idempotency-key"))
    except BadInput as error:
        return _no(400, str(error), error)

    def ask() -> str:
        return hooks.submit(hook.deployment, parameters, source="webhook", key=f"{hook.name} {key}")

    try:
        run = await asyncio.get_running_loop().run_in_executor(hooks.threads, ask)
    except BadInput as error:
        if error.field == "deployment":  # the settings' mistake, or not deployed yet: the caller may try again
            return _no(503, f"not now: {error}", after_s=30)
        return _no(400, str(error), error)
    except NightbeamError as error:
        return _no(503, f"not now: {error}", after_s=30)
    except Exception:
        logging.getLogger(__name__).exception("the hook %s failed", hook.name)
        return _no(500, "this hook failed; the server's log says more")
    return JSONResponse({"flow_run": run}, status_code=202)


def _not_plain_json(request: Request) -> JSONResponse | None:
    """What is wrong with a request before its body is read."""
    kind, _, rest = single(request.headers, "content-type").partition(";")
    if kind.strip() != "application/json" or rest.strip().replace('"', "") not in ("", "charset=utf-8"):
        return _no(415, "Content-Type has to be application/json, in UTF-8")
    if "content-encoding" in request.headers:
        return _no(415, "no Content-Encoding is understood")
    if request.url.query:
        return _no(400, "parameters go into the body, and nothing into the address")
    lengths = request.headers.getlist("content-length")
    if len(lengths) > 1 or (lengths and "transfer-encoding" in request.headers):
        return _no(400, "how long the body is has to be said once")
    if lengths and (not lengths[0].isdecimal() or int(lengths[0][:20]) > LARGEST_BODY):
        return _no(413, f"at most {LARGEST_BODY:,} bytes")
    return None


async def _body(request: Request) -> bytes | None:
    """The body; None where it is too long, whatever was said of its length."""
    body = b""
    async for piece in request.stream():
        body += piece
        if len(body) > LARGEST_BODY:
            return None
    return body


def _read(hook: Hook, body: bytes, keys: list[str]) -> tuple[str, dict[str, Any]]:
    """Key and parameters of a request."""
    try:
        text = body.decode("utf-8")
    except UnicodeDecodeError:
        raise BadInput(field="body", value="bytes", limit="has to be UTF-8") from None
    document = parse_json(text, "body")
    try:
        asked = Asked.model_validate(document)
    except ValidationError as error:
        raise explained(error, Asked, "body") from None
    refuse_unsound(asked.parameters, "parameters")
    for name in asked.parameters:
        if name not in hook.allow:
            limit = f"may not be set here; {some_of(hook.allow)} may" if hook.allow else "no parameter may be set here"
            raise BadInput(field=f"parameters.{name}", value=asked.parameters[name], limit=limit)
    given = [*keys, *([asked.key] if asked.key is not None else [])]
    if len(set(given)) != 1 or len(keys) > 1:
        value = given if given else "nothing"
        limit = "one key is wanted, in the body or as the header Idempotency-Key: what is sent again has the same one"
        raise BadInput(field="key", value=value, limit=limit)
    if not 1 <= len(given[0]) <= LONGEST_KEY or not given[0].isprintable():
        raise BadInput(field="key", value=given[0], limit=f"1 to {LONGEST_KEY} printable characters")
    return given[0], {**hook.parameters, **asked.parameters}


def _no(status: int, words: str, error: BadInput | None = None, after_s: int | None = None) -> JSONResponse:
    facts = error.as_dict() if error is not None else {}
    headers = None if after_s is None else {"Retry-After": str(after_s)}
    return JSONResponse({"error": words, **facts}, status_code=status, headers=headers)
