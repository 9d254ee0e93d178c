"""What a simulated instrument is exposing, for a device that stands beside it and takes no part in its session."""

from pathlib import Path

from devices.simulator.client import ANSWER_TIMEOUT_S, connect, no_answer
from devices.simulator.remote import RemoteSource
from devices.simulator.wire import EXPOSING, read_address, unpack_error


def exposure_under_way(folder: Path) -> RemoteSource | None:
    """The frames of the exposure that an instrument is in the middle of.

    Parameters
    ----------
    folder : Path
        The instrument's: ``home/instruments/NAME``.

    Returns
    -------
    RemoteSource or None
        None where no server runs, or no raster.

    Raises
    ------
    DeviceFault
        From a server that does not answer.
    """
    address = read_address(folder)
    if address is None:
        return None
    try:
        link = connect(address, ANSWER_TIMEOUT_S)
        try:
            link.send({"call": "exposing"})
            head, answer = link.receive()
        finally:
            link.close()
    except OSError as error:
        raise no_answer(folder.name, address, error) from None
    if "error" in head:
        raise unpack_error(head)
    facts = EXPOSING.validate_json(answer, strict=True)
    return RemoteSource(folder, facts.run, facts.frames, facts.detector_shape, facts.dtype) if facts else None
