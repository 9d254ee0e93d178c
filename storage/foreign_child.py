"""The child process that reads one foreign file and sends header and frames to its parent.

Usage: python -m storage.foreign_child FILE MEMORY_BYTES FILE_BYTES CPU_SECONDS FIRST. On standard output: the length of
the header (4 bytes, big-endian), the header (JSON, see ``storage.foreign.Header``), then the frames as they are, from
position FIRST on.
"""

import json
import os
import struct
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from storage.confined import confine, end_with_parent

FILE_WRITE_BYTES = 2**20
BLOCK_BYTES = 32 * 2**20


def main() -> None:
    """Set the limits first, then read."""
    path, memory, beside, cpu = sys.argv[1], *(int(text) for text in sys.argv[2:5])
    first = int(sys.argv[5])
    _confine(memory, beside, cpu)
    output = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # a reader that prints must not end up among the frames
    end_with_parent()
    from stem4d.errors import BadInput
    from storage.foreign import OUT_OF_MEMORY

    try:
        _send(path, first, output)
    except MemoryError:
        os._exit(OUT_OF_MEMORY)
    except BadInput as error:
        print(error, file=sys.stderr, flush=True)
        os._exit(1)
    except BrokenPipeError:
        os._exit(0)


def _confine(memory: int, beside: int, cpu: int) -> None:
    confine(memory, beside, cpu, FILE_WRITE_BYTES)
    sys.addaudithook(_no_network)
    sys.addaudithook(_note_opened)


def _no_network(event: str, _: tuple[object, ...]) -> None:
    if event in ("socket.connect", "socket.bind", "socket.getaddrinfo", "socket.sendto", "subprocess.Popen"):
        raise PermissionError(f"{event} is not allowed in a file reader")


_OPENED: set[str] = set()


def _note_opened(event: str, args: tuple[Any, ...]) -> None:
    """Remembers what is opened: data and header of some formats lie in files of their own."""
    if event == "open" and isinstance(args[0], str):
        _OPENED.add(args[0])


def _files(path: str) -> list[str]:
    """Names of the files in the folder of a file that it was read from, the file itself among them."""
    from storage.guard import files_of
    from storage.hdf5 import has_signature

    real = Path(path).resolve()
    opened = {Path(one).resolve() for one in sorted(_OPENED)} | (files_of(real) if has_signature(real) else set())
    return sorted({one.name for one in opened if one.parent == real.parent and one.is_file()} | {real.name})


def _send(path: str, first: int, output: BinaryIO) -> None:
    from stem4d.errors import BadInput
    from storage.foreign_facts import Unreadable, understand

    header: dict[str, Any]
    frames: Iterator[bytes] = iter(())
    try:
        found = understand(path)
        header, frames = {**found.header, "files": _files(path)}, found.blocks(BLOCK_BYTES, first)
    except Unreadable as error:
        header = {"error": str(error)}
    except BadInput as error:
        header = {"refused": error.as_dict()}
    text = json.dumps(header, allow_nan=False).encode()
    output.write(struct.pack(">I", len(text)) + text)
    output.flush()
    for block in frames:
        output.write(block)
    output.flush()


if __name__ == "__main__":
    main()
