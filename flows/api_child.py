"""The child that flows/api.py starts: Prefect's API on an inherited socket, killed by the kernel with its parent.

Run by path, so it imports nothing of ours.
"""

import ctypes
import gc
import os
import signal
import socket
import sys
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

PR_SET_PDEATHSIG = 1


def die_with(parent: int) -> None:
    """Ask the kernel for SIGKILL when the thread that started us ends, and leave now if it ended already."""
    if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG)")
    if os.getppid() != parent:
        sys.exit(1)


Message = MutableMapping[str, Any]
App = Callable[[Message, Callable[[], Awaitable[Message]], Callable[[Message], Awaitable[None]]], Awaitable[None]]


def only_own_pages(app: App, origins: str) -> App:
    """Refuse what a page of another site sends, with the password or without; Prefect does it, and hides the answer."""
    allowed = {one.strip().encode() for one in origins.split(",")}

    async def asked(scope: Message, receive: Any, send: Any) -> None:
        sent = [value for name, value in scope.get("headers", ()) if name == b"origin"]
        # What a browser asks before it sends (OPTIONS) is refused by Prefect itself, with words that a browser reads.
        if not sent or scope.get("method") == "OPTIONS" or (len(sent) == 1 and sent[0] in allowed):
            await app(scope, receive, send)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
        else:
            words = b"not from another site"
            headers = [(b"content-type", b"text/plain"), (b"content-length", str(len(words)).encode())]
            await send({"type": "http.response.start", "status": 403, "headers": headers})
            await send({"type": "http.response.body", "body": words})

    return asked


def main(door: int, parent: int) -> None:
    """Serve until a signal comes; settings come from the environment."""
    die_with(parent)
    gc.disable()  # a fifth of the imports below is the collector looking at modules that will stay
    import uvicorn
    from prefect.server.api.server import create_app

    gc.freeze()  # `create_app` collects by itself, and would look at them all once more
    app = create_app(final=True)
    gc.freeze()
    gc.enable()
    guarded = only_own_pages(app, os.environ["PREFECT_SERVER_CORS_ALLOWED_ORIGINS"])
    config = uvicorn.Config(guarded, log_level="warning", access_log=False, lifespan="on", timeout_graceful_shutdown=5)
    uvicorn.Server(config).run(sockets=[socket.socket(fileno=door)])


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
