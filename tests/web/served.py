"""The pages behind a real server on the loopback, in a thread of the test's own process."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import httpx
import uvicorn
from fastapi import FastAPI


@contextmanager
def served(app: FastAPI, **headers: str) -> Iterator[httpx.Client]:
    """A client of the application; ``headers`` go with every request."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = uvicorn.Server(uvicorn.Config(app, log_config=None, access_log=False, lifespan="off"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
        thread.start()
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        # The socket listens already: a first request waits until the server takes it.
        with httpx.Client(base_url=url, headers=headers, timeout=30, trust_env=False) as client:
            yield client
        server.should_exit = True
        thread.join(timeout=10)
        assert not thread.is_alive()
