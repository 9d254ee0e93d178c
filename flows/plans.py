"""The plans that come with nightbeam: in the checkout's plans/, or inside the installed package."""

from pathlib import Path

from stem4d.errors import BadInput


def shipped(name: str) -> Path:
    """A shipped file by its name below plans/."""
    installed = Path(__file__).parent / "shipped" / name
    checkout = Path(__file__).parents[1] / "plans" / name
    for path in (installed, checkout):
        if path.is_file():
            return path
    raise BadInput(field="plan", value=name, limit="not among the plans that come with nightbeam")
