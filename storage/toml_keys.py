"""Finds TOML keys of absurd length: the standard parser needs memory that grows with the square of their parts.

A file of 256 KiB that reads ``a.a.a. ... = 1`` takes tomllib some 70 GB.
"""

import re

_TOKEN = re.compile(
    r'"""(?:[^\\]|\\(?:.|\Z))*?(?:"{3,5}|\Z)'
    r"|'''.*?(?:'{3,5}|\Z)"
    r'|(?P<key>"(?:[^"\\\n]|\\(?:.|\Z))*(?:"|\n|\Z)'
    r"|'[^'\n]*(?:'|\n|\Z)"
    r"|[A-Za-z0-9_-]+)"
    r"|(?P<dot>\.)"
    r"|(?P<space>[ \t]+)"
    r"|\#[^\n]*|.",
    re.DOTALL,
)
"""Every piece of a TOML text, strings and comments whole; one that is not closed runs to where tomllib gives up."""


def has_key_longer_than(text: str, most: int) -> bool:
    """Whether a dotted key in a TOML text has more than ``most`` parts."""
    dots = 0
    for token in _TOKEN.finditer(text):
        if token.lastgroup == "dot":
            dots += 1
            if dots >= most:
                return True
        elif token.lastgroup not in ("key", "space"):
            dots = 0
    return False
