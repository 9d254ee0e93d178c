"""The command that shows the record as pages, and with a file of deployments starts nights by itself: serve."""

from contextlib import ExitStack
from pathlib import Path
from typing import Annotated, Any

import typer

from flows.cli.answer import Code, aside, command

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
    deployments: Annotated[
        Path | None, typer.Option(help="File of deployments (prefect.yaml): schedules, triggers and workers run too.")
    ] = None,
    prefect_port: Annotated[
        int, typer.Option(help="Port of Prefect's server, which listens to this machine alone.", min=0, max=65535)
    ] = 4200,
    token_file: Annotated[
        Path | None, typer.Option(help="File with the token, for NIGHTBEAM_WEB_TOKEN; only you may be able to read it.")
    ] = None,
) -> Code:
    """Show nights, runs, calibrations and what runs now in a browser; nothing can be changed there by who looks.

    With --deployments it is all that one machine needs in production: Prefect's server with its pages, the deployments
    of the file, a worker for each of their pools, the watched folders. What runs is ended safely with it, and goes on
    with the next one.

    Example: nightbeam serve --deployments prefect.yaml
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

    with ExitStack() as stack:
        if deployments is not None:
            from flows.serving.deployments import read_deployments

            found = read_deployments(deployments)
            settings.home.mkdir(parents=True, exist_ok=True)
        engine = stack.enter_context(recorded_database(settings))
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
            from web.view.hooks import said_of_hooks

            app = make_app(settings, engine, guard, hooks=_submit if settings.hooks else None)
            if words := said_of_hooks(settings):
                aside(words)
            if deployments is not None:
                from flows.serving.one_machine import production

                # Before this thread takes less of the processor: what it starts is to have all of it.
                stack.enter_context(production(settings, found, prefect_port, aside))
            print(f"http://{shown}:{bound}/ (Ctrl+C ends it)", flush=True)
            config = uvicorn.Config(
                app,
                log_level="warning",
                access_log=False,
                server_header=False,
                timeout_graceful_shutdown=3,
            )
            os.nice(NICE)
            uvicorn.Server(config).run(sockets=[listener])
    return Code.DONE


def _submit(deployment: str, parameters: dict[str, Any], *, source: Any, key: str) -> str:
    """Prefect is loaded by the first hook that is called, not by whoever reads pages."""
    from flows.submit import submit

    return submit(deployment, parameters, source=source, key=key)
