"""The command ``nightbeam``."""

import gc
import sys


def main() -> None:
    """Entry point: refuse what cannot work, then hand over to the commands."""
    if sys.platform != "linux":
        sys.exit("nightbeam runs on Linux; instrument computers with Windows are reached over the network")
    # A tenth of the imports below would be the collector looking at modules that will stay.
    gc.set_threshold(50_000, 20, 100)
    from flows.cli.app import app

    app(prog_name="nightbeam")
