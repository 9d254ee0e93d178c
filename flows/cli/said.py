"""How facts are printed: a line that a name cannot forge, and columns under their heads."""

from collections.abc import Sequence

from stem4d.names import plainly


def say(text: object = "") -> None:
    """Print one line."""
    print(plainly(text))


def say_table(heads: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Print columns as wide as they need to be; the last one is not filled up."""
    lines = [[plainly("" if cell is None else cell) for cell in row] for row in (heads, *rows)]
    widths = [max(len(line[at]) for line in lines) for at in range(len(heads))]
    for line in lines:
        filled = [cell.ljust(width) for cell, width in zip(line, widths, strict=True)]
        print("  ".join(filled).rstrip())
