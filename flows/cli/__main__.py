"""``python -m flows.cli``: the command, where its script is not on the path."""

from flows.cli import main

main()
