"""The codec of packed frames, which tests of several packages need."""

from functools import cache

from storage.codec import Codec, bitshuffle_lz4


@cache
def bitshuffle() -> Codec:
    """The one that hdf5plugin brings; fails where its build does not export it."""
    found = bitshuffle_lz4()
    assert found is not None
    return found
