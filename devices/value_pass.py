"""A recorded file whose values need not be counts: a first reading that finds out, and the maps by a second one."""

from stem4d.maps import RunMaps
from stem4d.values import Reading, Survey, ValueMaps
from storage.frames import Frames

AT_ONCE_BYTES = 8 * 2**20
"""Frames that are worked on together; in double precision, with what is kept beside them, several times as much."""


def survey_of(frames: Frames) -> Survey:
    """Read a file once for what its values are."""
    survey = Survey(frames.scan_shape, frames.detector_shape)
    for first, batch in frames.batches(AT_ONCE_BYTES):
        survey.add(first, batch)
    return survey


def value_maps_of(frames: Frames, reading: Reading) -> RunMaps:
    """The maps of a file whose values are no counts."""
    maps = ValueMaps(reading)
    for first, batch in frames.batches(AT_ONCE_BYTES):
        maps.add(first, batch)
    return maps.finished()
