"""The command that shows the record as pages: serve."""

from pathlib import Path
from typing import Annotated

import typer

from flows.cli.answer import Code, command

NICE = 10
"""Less of the processor than a run on this machine gets, where both want it."""


@command
def serve(
    host: Annotated[
        str, typer.Option(help="Address to listen on; any but this machine's needs a token (NIGHTBEAM_WEB_TOKEN).")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on.", min=0, max=65535)] = 8765,
    name: Annotated[
        list[str] | None, typer.Option(help="Another name by which it may be asked, as a proxy's; repeatable.")
    ] = None,
    token_file: Annotated[
        Path | None, typer.Option(help="File with the token, for NIGHTBEAM_WEB_TOKEN; only you may be able to read it.")
    ] = None,
) -> Code:
    """Show nights, runs, calibrations and what runs now in a browser; nothing can be changed there.

    Example: nightbeam serve
    """
    from storage.settings import load_settings
    from web.view.guard import guard_for, token_of

    settings = load_settings()
    token = settings.web_token.get_secret_value() if settings.web_token else None
    token = token_of(token_file) if token_file else token
    guard = guard_for(host, token, tuple(name or ()))
    import os
    import socket

    from flows.recorded import recorded_database
    from stem4d.errors import BadInput

    with recorded_database(settings) as engine:
        try:
            listener = socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
        except (OSError, OverflowError) as error:
            limit = f"cannot be listened on: {error.strerror if isinstance(error, OSError) else error}"
            raise BadInput(
                field="--host, --port", value=f"{host}, {port}", limit=limit, remedy="Name another"
            ) from None
        with listener:
            address, bound = listener.getsockname()[:2]
            guard_for(address, token)  # a name may lead elsewhere than it says
            shown = f"[{host}]" if ":" in host else host
            # Late: they take a second or two to be loaded, and what is refused is refused before.
            import uvicorn

            from web.view.app import make_app

            print(f"http://{shown}:{bound}/ (Ctrl+C ends it)", flush=True)
            config = uvicorn.Config(
                make_app(settings, engine, guard),
                log_level="warning",
                access_log=False,
                server_header=False,
                timeout_graceful_shutdown=3,
            )
            os.nice(NICE)
            uvicorn.Server(config).run(sockets=[listener])
    return Code.DONE
