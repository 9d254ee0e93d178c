"""Texts of people and of the record as markdown shows them: as they are, and as nothing else."""

import re

from stem4d.names import plainly

MOST_TEXT = 600
"""Characters of one text."""
_MARKS = re.compile(r"[\\`*_{}\[\]<>|~&#:@$!()+=-]|(?<=www)\.|^[0-9]+[.)]", re.IGNORECASE)


def escaped(text: object, most: int = MOST_TEXT) -> str:
    """A text on one line, cut where it is too long, in which nothing is a mark, a link or HTML.

    >>> escaped("*a*")
    '\\\\*a\\\\*'
    """
    plain = plainly(" ".join(str(text).split()))
    plain = plain if len(plain) <= most else f"{plain[: most - 2]} …"
    return _MARKS.sub(lambda found: "".join(f"\\{each}" if not each.isalnum() else each for each in found[0]), plain)


def rows_of(headers: tuple[str, ...], rows: "tuple[tuple[str, ...], ...]") -> str:
    """A table of cells that are markdown already."""
    lines = (headers, ("---",) * len(headers), *rows)
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
