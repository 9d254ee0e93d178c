"""Which analyses look at the frames, by name."""

from stem4d.analyse.method import Method

_ALL: tuple[Method, ...] = ()
METHODS = {one.name: one for one in _ALL}
