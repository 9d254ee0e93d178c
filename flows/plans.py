"""The plans that come with nightbeam, in the checkout's plans/ or inside the package; and which instrument is whose."""

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


def instrument_of(plan: Path, given: Path | None) -> Path:
    """The instrument file for a plan: the one given, else that of the plan's name beside it, else the simulator's."""
    if given is not None:
        return given
    own = plan.parent / "instruments" / f"{plan.stem}.toml"
    return own if own.is_file() else shipped("instruments/demo.toml")
