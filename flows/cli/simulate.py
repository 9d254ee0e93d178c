"""Commands that run devices that are not there: simulate simplon."""

from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, Annotated

import typer

from flows.cli.answer import Code, command
from stem4d.errors import BadInput

if TYPE_CHECKING:
    from devices.simplon.emulator.frames import PixelSource
    from devices.simplon.emulator.hardware import Hardware
    from devices.simplon.emulator.microscope import Microscope

SYNTHETIC, SIMULATOR = "synthetic", "simulator"
DEMO = "instruments/simplon_demo.toml"
HIGHEST_PORT = 65535
PortOption = Annotated[
    int, typer.Option(min=0, max=HIGHEST_PORT, help="TCP port on the loopback interface; 0: a free one.")
]


@command
def simplon(
    port: PortOption = 8008,
    stream_port: PortOption = 31001,
    legacy_port: PortOption = 9999,
    frames: Annotated[
        str,
        typer.Option(
            help=f"'{SYNTHETIC}'; a file whose frames are sent again and again; '{SIMULATOR}': what the simulated "
            f"microscope of plans/{DEMO} sends onto it; or another such instrument file (.toml)."
        ),
    ] = SYNTHETIC,
    size: Annotated[int, typer.Option(min=8, max=4096, help="Side of synthetic frames [px].")] = 512,
    rate: Annotated[
        float | None, typer.Option(help="Frames per second; 0: as fast as they go. Left out: what frame_time says.")
    ] = None,
    fault: Annotated[
        list[str] | None,
        typer.Option(help="drop=frame:10,count:2 or no_end; may be given again. All kinds: docs/simplon_emulator.md."),
    ] = None,
    asked_pulses: Annotated[
        bool,
        typer.Option("--asked-pulses", help="External triggers come by PUT /emulator/pulse only, not by themselves."),
    ] = False,
) -> Code:
    """Emulate a DECTRIS detector: SIMPLON REST, stream v2 and the legacy stream. Ends with Ctrl+C.

    \b
    Example: nightbeam simulate simplon --rate 100 --fault drop=frame:10
    Then, in another shell:
    curl -X PUT http://127.0.0.1:8008/detector/api/1.8.0/command/initialize
    curl http://127.0.0.1:8008/detector/api/1.8.0/status/state

    \b
    A whole experiment over its sockets:
    nightbeam simulate simplon --frames simulator
    and, in another shell with the same NIGHTBEAM_HOME:
    nightbeam run plans/simplon_demo.yaml --yes
    """
    from devices.simplon.emulator import start_emulator
    from devices.simplon.emulator.faults import fault_of_text
    from devices.simplon.emulator.microscope import Microscope

    faults = [fault_of_text(each) for each in fault or ()]
    source, made, ring_frames = _source(frames, size)
    with start_emulator(
        source=source,
        made=made,
        rate_hz=_rate(rate),
        faults=faults,
        pulses="asked" if asked_pulses else "free",
        ring_frames=ring_frames,
        rest_port=port,
        stream_port=stream_port,
        legacy_port=legacy_port,
    ) as emulator:
        if isinstance(source, Microscope):
            # As one that a microscope was used with before: a run initialises nothing.
            emulator.state.command("detector", "initialize")
        print(f"REST           {emulator.base}")
        print(f"stream v2      tcp://127.0.0.1:{emulator.stream_port}")
        print(f"legacy stream  tcp://127.0.0.1:{emulator.legacy_port}", flush=True)
        Event().wait()
    return Code.DONE


def _rate(rate: float | None) -> float | None:
    """As the emulator takes it."""
    if rate is None or rate > 0:
        return rate
    if rate == 0:
        return float("inf")
    raise BadInput(field="--rate", value=rate, limit="has to be 0 or more", unit="frames/s")


def _source(frames: str, size: int) -> "tuple[PixelSource | Microscope, Hardware | None, int]":
    """What lights the detector, what it is where that is known, and how many frames are packed in advance."""
    if frames == SIMULATOR or frames.endswith(".toml"):
        return (*_mounted(frames), 1)
    from devices.simplon.emulator.frames import RecordedFrames, SyntheticFrames, ring_length

    source = SyntheticFrames((size, size)) if frames == SYNTHETIC else RecordedFrames(Path(frames))
    return source, None, ring_length(source)


def _mounted(frames: str) -> "tuple[Microscope, Hardware]":
    from devices.simplon.emulator.microscope import mounted
    from flows.plans import shipped
    from stem4d.instrument import InstrumentFile
    from storage.documents import load_model
    from storage.settings import load_settings

    file = load_model(shipped(DEMO) if frames == SIMULATOR else Path(frames), InstrumentFile)
    return mounted(file, load_settings().home, lambda line: typer.echo(line, err=True))
