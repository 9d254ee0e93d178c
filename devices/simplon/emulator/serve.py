"""Serves the application on the loopback interface in a thread."""

import asyncio
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Thread

import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol

from devices.simplon.emulator.faults import FaultBook
from devices.simplon.emulator.http_faults import Connections, with_faults
from stem4d.errors import BadInput

HOST = "127.0.0.1"


@contextmanager
def served(app: ASGIApp, book: FaultBook, port: int) -> Iterator[int]:
    """Serve until the block ends; the port is free for the asking with 0 and told."""
    connections: Connections = {}

    class Protocol(H11Protocol):
        """Says which connection is whose, so that a fault can break it."""

        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            super().connection_made(transport)
            # asyncio does that for sockets that were made for TCP by name, not for these: answers came 40 ms late.
            transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if self.client is not None:
                connections[self.client] = transport

        def connection_lost(self, exc: Exception | None) -> None:
            if self.client is not None:
                connections.pop(self.client, None)
            super().connection_lost(exc)

    try:
        listener = socket.create_server((HOST, port))
    except (OSError, OverflowError) as error:
        raise BadInput(field="REST port", value=port, limit=f"cannot be bound: {error}") from None
    config = uvicorn.Config(
        with_faults(app, book, connections),
        http=Protocol,
        ws="none",
        lifespan="off",
        log_config=None,
        log_level="warning",
        access_log=False,
        timeout_graceful_shutdown=1,
    )
    server = uvicorn.Server(config)
    thread = Thread(target=server.run, kwargs={"sockets": [listener]}, name="simplon-emulator-rest", daemon=True)
    told: int = listener.getsockname()[1]
    thread.start()
    try:
        yield told
    finally:
        server.should_exit = True
        thread.join()
        listener.close()
