"""A DECTRIS detector that is not there: SIMPLON REST, stream v2 and the legacy stream, on the loopback interface."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from devices.simplon.emulator.app import create_app
from devices.simplon.emulator.faults import Fault, FaultBook
from devices.simplon.emulator.frames import FrameSupply, PixelSource, Rings, SyntheticFrames
from devices.simplon.emulator.hardware import Hardware
from devices.simplon.emulator.microscope import Microscope
from devices.simplon.emulator.outlet import Outlet
from devices.simplon.emulator.sender import Sender
from devices.simplon.emulator.serve import HOST, served
from devices.simplon.emulator.state import DetectorState, Pulses
from devices.simplon.emulator.truth import Truth
from stem4d.errors import BadInput


@dataclass(frozen=True)
class Emulator:
    """A running one."""

    rest_port: int
    stream_port: int
    """Of stream v2 (``format`` cbor)."""
    legacy_port: int
    """Of the legacy stream."""
    state: DetectorState
    faults: FaultBook
    truth: Truth

    @property
    def base(self) -> str:
        """Address of the REST interface."""
        return f"http://{HOST}:{self.rest_port}"


@contextmanager
def start_emulator(
    *,
    source: PixelSource | Microscope | None = None,
    made: Hardware | None = None,
    rate_hz: float | None = None,
    faults: Iterable[Fault] = (),
    pulses: Pulses = "free",
    ring_frames: int = 32,
    rest_port: int = 0,
    stream_port: int = 0,
    legacy_port: int = 0,
    high_water_mark: int = 1000,
    patience_s: float = 2.0,
) -> Iterator[Emulator]:
    """Run an emulated detector for the length of the block.

    Parameters
    ----------
    source : PixelSource or Microscope, optional
        Where pixels come from; a synthetic disk of the detector's shape by default.
    made : Hardware, optional
        What the detector is; by default one of the source's shape.
    rate_hz : float, optional
        Images per second; infinity is as fast as they go, and None what ``frame_time`` says.
    faults : iterable of Fault
        What goes wrong from the start; see ``/emulator/faults`` for later.
    pulses : {"free", "asked"}
        Where trigger pulses come from in external modes: by themselves once armed, or only where asked for.
    ring_frames : int
        Frames of the source packed in advance and sent in turn.
    rest_port, stream_port, legacy_port : int
        0 takes a free one.
    high_water_mark : int
        Messages that wait for a slow client.
    patience_s : float
        How long a message waits for room before it and those after it are lost [s].

    Raises
    ------
    BadInput
        The source's frames are not of the detector's shape, or a port is taken.
    """
    if source is None:
        source = SyntheticFrames((made.y_px, made.x_px) if made else (512, 512))
    if made is None:
        made = Hardware(y_px=source.shape[0], x_px=source.shape[1])
    if source.shape != (made.y_px, made.x_px):
        raise BadInput(
            field="source", value=source.shape, limit=f"of the detector, {made.y_px} x {made.x_px}", unit="px"
        )
    book, truth = FaultBook(tuple(faults)), Truth()
    state = DetectorState(made, pulses, stuck=lambda: "stuck_acquire" in book.of_series())
    if isinstance(source, Microscope):
        frames: FrameSupply = source
    else:
        frames = rings = Rings(source, ring_frames)
        rings.of(state.values("detector"))
    outlet = Outlet({"cbor": stream_port, "legacy": legacy_port}, high_water_mark, patience_s)
    sender = Sender(state, frames, book, truth, outlet, rate_hz)
    sender.start()
    try:
        with served(create_app(state, book, truth), book, rest_port) as told:
            ports = outlet.ports
            try:
                yield Emulator(told, ports["cbor"], ports["legacy"], state, book, truth)
            finally:
                state.close()
    finally:
        outlet.give_up()
        state.close()
        sender.join()
