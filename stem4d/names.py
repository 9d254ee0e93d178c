"""Names that may become paths, and texts as they may be shown, for processes that are to start without the models."""

NAME_PATTERN = r"^[A-Za-z0-9](?:[A-Za-z0-9._-]{0,62}[A-Za-z0-9_-])?$"


def plainly(text: object) -> str:
    """A text for a terminal and a log: what does not print (escapes, line ends, marks of direction) as its code."""
    spaced = str(text).replace("\u00a0", " ").replace("\u202f", " ")
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in spaced)
