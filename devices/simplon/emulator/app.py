"""The HTTP face of the emulated detector: SIMPLON's paths, and `/emulator/...` of our own for faults and truth."""

from typing import Any

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from devices.simplon.emulator.faults import FAULTS, FaultBook, read_faults
from devices.simplon.emulator.keys import API_VERSION, MODULES, KeyRefused
from devices.simplon.emulator.settings import UnknownPath
from devices.simplon.emulator.state import DetectorState, Triggered
from devices.simplon.emulator.truth import Truth
from devices.strict_json import parsed
from stem4d.errors import BadInput

TASKS = ("config", "status", "command")


def create_app(state: DetectorState, book: FaultBook, truth: Truth) -> Starlette:
    """The application, without the faults of requests."""

    async def version(request: Request) -> Response:
        _module(request)
        return JSONResponse({"value": API_VERSION, "value_type": "string"})

    async def read(request: Request) -> Response:
        module, task, key = _path(request)
        if task == "command":
            raise _Refused(405, "commands are PUT")
        if key == "keys":
            return JSONResponse(state.key_names(module, task))
        return JSONResponse(state.config(module, key) if task == "config" else state.status(module, key))

    async def write(request: Request) -> Response:
        module, task, key = _path(request)
        if task == "config":
            document = await _body(request)
            asked = _values(document) if not key else {key: _value(document, key)}
            return JSONResponse(state.write(module, asked))
        if task != "command":
            raise _Refused(405, "status is read-only")
        document = await _body(request, may_be_empty=True)
        given = document.get("value") if isinstance(document, dict) else None
        done = state.command(module, key, given)
        if isinstance(done, Triggered):
            # The answer comes when the exposure is over, as a detector's does.
            await run_in_threadpool(state.wait_exposed, done)
            done = {}
        return JSONResponse(done)

    async def faults(request: Request) -> Response:
        if request.method == "PUT":
            book.set(read_faults(await _body(request)))
        return JSONResponse(FAULTS.dump_python(book.all(), mode="json"))

    async def told(_request: Request) -> Response:
        return JSONResponse(truth.document())

    async def pulse(request: Request) -> Response:
        document = await _body(request, may_be_empty=True) or {}
        pulses = document.get("pulses", 1) if isinstance(document, dict) else None
        if not isinstance(pulses, int) or isinstance(pulses, bool) or pulses < 1:
            raise _Refused(400, 'takes {"pulses": N} with N of 1 or more')
        state.pulse(pulses)
        return JSONResponse({})

    async def unknown(request: Request, _error: Exception) -> Response:
        # Everything below the address of the module; what a client shows its user.
        path = request.url.path.lstrip("/")
        return PlainTextResponse(f'error during request: path error: unknown path: "{path}"', 404)

    async def refused(_request: Request, error: Exception) -> Response:
        return PlainTextResponse(f"error during request: {error}", getattr(error, "status", 400))

    key = "/{module}/api/{version}/{task}"
    return Starlette(
        routes=[
            Route("/emulator/faults", faults, methods=["GET", "PUT"]),
            Route("/emulator/truth", told),
            Route("/emulator/pulse", pulse, methods=["PUT"]),
            Route("/{module}/api/version", version),
            Route("/{module}/api/version/", version),
            Route(key + "/{key:path}", read),
            Route(key + "/{key:path}", write, methods=["PUT"]),
            Route(key, write, methods=["PUT"]),
        ],
        exception_handlers={
            404: unknown,
            UnknownPath: unknown,
            KeyRefused: refused,
            BadInput: refused,
            _Refused: refused,
        },
    )


class _Refused(Exception):
    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


def _module(request: Request) -> str:
    module: str = request.path_params["module"]
    if module not in MODULES:
        raise UnknownPath(module)
    return module


def _path(request: Request) -> tuple[str, str, str]:
    module, task, key = _module(request), request.path_params["task"], request.path_params.get("key", "")
    if request.path_params["version"] != API_VERSION or task not in TASKS:
        raise UnknownPath(task)
    return module, task, key.rstrip("/")


async def _body(request: Request, *, may_be_empty: bool = False) -> Any:
    raw = await request.body()
    if may_be_empty and not raw.strip():
        return None
    try:
        return parsed(raw)
    except ValueError as error:
        raise _Refused(400, f"the body is not JSON: {error}") from None


def _value(document: Any, key: str) -> Any:
    if not isinstance(document, dict) or "value" not in document:
        raise _Refused(400, f'{key} takes {{"value": ...}}')
    return document["value"]


def _values(document: Any) -> dict[str, Any]:
    if not isinstance(document, dict) or not document:
        raise _Refused(400, 'config takes {"key": {"value": ...}, ...}')
    return {key: _value(each, key) for key, each in document.items()}
