"""The command ``nightbeam``."""

import sys


def main() -> None:
    """Entry point: refuse what cannot work, then hand over to the commands."""
    if sys.platform != "linux":
        sys.exit("nightbeam runs on Linux; instrument computers with Windows are reached over the network")
    from flows.cli.app import app

    app(prog_name="nightbeam")
