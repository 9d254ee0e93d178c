"""The one error of its own that the database can cause."""

from stem4d.errors import NightbeamError


class DatabaseAway(NightbeamError):
    """The database cannot be reached, stays locked, or cannot write; what was asked for was not recorded."""
