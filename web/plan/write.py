"""Writes a picture of a plan to a file, PNG or SVG by its name."""

from pathlib import Path

from matplotlib.figure import Figure

from stem4d.errors import BadInput


def write_figure(figure: Figure, path: Path) -> None:
    """Write a figure; the same plan gives the same bytes.

    Raises
    ------
    BadInput
        The name ends in neither .png nor .svg, or the file cannot be written.
    """
    kind = path.suffix.lower().removeprefix(".")
    if kind not in ("png", "svg"):
        raise BadInput(field="picture", value=path.name, limit="its name has to end in .png or .svg")
    metadata = {"Software": None} if kind == "png" else {"Date": None, "Creator": None}
    try:
        figure.savefig(path, format=kind, dpi=150, metadata=metadata)
    except OSError as error:
        raise BadInput(field="picture", value=str(path), limit=f"cannot be written: {error.strerror}") from None
