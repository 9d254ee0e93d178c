"""The child process that reads one of our files in whatever state it is, to verify it or to save its frames.

Usage: python -m storage.rescue_child verify FILE MEMORY_BYTES CPU_SECONDS
       python -m storage.rescue_child save FILE MEMORY_BYTES CPU_SECONDS TARGET FACTS_JSON
On standard output lines of JSON, each {topic: facts}: bytes as they are read, then refused, destroyed, full, or
findings and what else there is to say.
"""

import json
import os
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from storage.confined import confine, end_with_parent

TELL_EVERY_BYTES = 32 * 2**20


def main() -> None:
    """Set the limits first, then read."""
    verb, path, memory, cpu = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
    confine(memory, path.stat().st_size, cpu)
    output = os.dup(1)
    os.dup2(2, 1)  # a library that prints must not end up among the facts
    end_with_parent()

    def say(topic: str, facts: dict[str, Any]) -> None:
        line = memoryview(json.dumps({topic: facts}, allow_nan=False).encode() + b"\n")
        while line:
            line = line[os.write(output, line) :]

    from stem4d.errors import BadInput
    from storage.contents import Destroyed
    from storage.disk import refusal

    try:
        if verb == "verify":
            _verify(path, say)
        else:
            _save(path, Path(sys.argv[5]), json.loads(sys.argv[6]), say)
    except BadInput as error:
        say("refused", error.as_dict())
    except Destroyed as error:
        say("destroyed", {"part": error.part, "why": error.why})
    except (OSError, RuntimeError) as error:
        why = refusal(error)
        if not why:
            raise
        say("full", {"why": why})
        os._exit(0)  # to take down in order what HDF5 could not write may crash


def _verify(path: Path, say: Any) -> None:
    from storage.contents import contents_of
    from storage.findings import findings
    from storage.rest import unreadable_parts

    with contents_of(path) as (view, contents):
        on_bytes = _Teller(say)
        found = findings(view, contents, on_bytes)
        say("findings", asdict(found))
        # Last, as it touches parts that the frames do not need: what is known is told by then.
        for topic, texts in (("rest", False), ("texts", True)):
            parts = unreadable_parts(contents.file, lambda: say("bytes", {"read": on_bytes.told}), texts=texts)
            say(topic, {"unreadable": parts})


def _save(path: Path, target: Path, facts: dict[str, Any], say: Any) -> None:
    from storage.saving import save_frames

    found, saved = save_frames(path, target, facts, _Teller(say))
    say("findings", asdict(found))
    say("saved", asdict(saved))


class _Teller:
    """Tells how many bytes were read, not too often."""

    def __init__(self, say: Any) -> None:
        self._say, self.told = say, 0

    def __call__(self, done: int) -> None:
        if done - self.told >= TELL_EVERY_BYTES or done < self.told:
            self.told = done
            self._say("bytes", {"read": done})


if __name__ == "__main__":
    main()
