"""Faults of requests, around the application: late, cut, refused or senseless answers, and closed connections."""

import asyncio
import socket
import struct

from starlette.responses import HTMLResponse, PlainTextResponse, Response, StreamingResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from devices.simplon.emulator.faults import FaultBook, RequestFault

OURS = "/emulator/"
"""Paths that no fault befalls: by them they are taken back."""
PIECE_BYTES = 65536
Connections = dict[tuple[str, int], asyncio.Transport]
"""Open connections by the client's address."""


def with_faults(app: ASGIApp, book: FaultBook, connections: Connections) -> ASGIApp:
    """The application with the faults that a book holds."""

    async def wrapped(scope: Scope, receive: Receive, send: Send) -> None:
        fault = None
        if scope["type"] == "http" and not scope["path"].startswith(OURS):
            fault = book.take_request(scope["method"], scope["path"])
        if fault is None:
            await app(scope, receive, send)
            return
        if fault.kind in ("slow", "slow_arm"):
            await asyncio.sleep(fault.seconds)
            await app(scope, receive, send)
            return
        if fault.after:
            await app(scope, receive, _to_nobody)
        if fault.kind in ("reset", "cut"):
            await _break(fault, connections.get(tuple(scope["client"])), receive, send)
        else:
            await _answer(fault)(scope, receive, send)

    return wrapped


async def _to_nobody(_message: Message) -> None:
    pass


def _answer(fault: RequestFault) -> Response:
    match fault.kind:
        case "html":
            return HTMLResponse("<html><body><h1>It works!</h1></body></html>")
        case "huge_body":
            # No length is said: the client finds out by reading.
            pieces = (b"x" * min(PIECE_BYTES, fault.body_bytes - at) for at in range(0, fault.body_bytes, PIECE_BYTES))
            return StreamingResponse(pieces, media_type="application/json")
    return PlainTextResponse("error during request: emulator: fault http_error", fault.status)


async def _break(fault: RequestFault, connection: asyncio.Transport | None, receive: Receive, send: Send) -> None:
    """Close the connection: by a reset before any answer, or in an answer's middle."""
    if connection is None:
        raise RuntimeError("the connection to break is not known")
    if fault.kind == "cut":
        head = [(b"content-type", b"application/json"), (b"content-length", b"100")]
        await send({"type": "http.response.start", "status": 200, "headers": head})
        await send({"type": "http.response.body", "body": b'{"value": ', "more_body": True})
        connection.close()
    else:
        # With no time to linger, closing sends a reset in the place of an orderly end.
        raw: socket.socket = connection.get_extra_info("socket")
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        connection.abort()
    while (await receive())["type"] != "http.disconnect":
        pass
