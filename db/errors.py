"""The errors of its own that the database can cause."""

from stem4d.errors import BadInput, NightbeamError


class DatabaseAway(NightbeamError):
    """The database cannot be reached, stays locked, or cannot write; what was asked for was not recorded."""


class DatabaseDamaged(BadInput):
    """The database's file is damaged or another one lies in its place; a copy may be brought back."""
