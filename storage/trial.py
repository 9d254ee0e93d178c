"""Reads the start of an HDF5 file in a limited child first: HDF5 can hang or crash on a damaged one.

Usage of the child: python -m storage.trial FILE MEMORY_BYTES CPU_SECONDS.
"""

import subprocess
import sys
from pathlib import Path

from stem4d.errors import BadInput
from storage.confined import confine
from storage.foreign import ChildLimits

REMEDY = "The file may be damaged; copy it again from its source"
OURS, REFUSED, FOREIGN = 0, 3, 4
"""Exit codes of the child: read, refused in words, not one of our own."""
LONGEST_WORDS = 2000


def is_sound_and_ours(path: Path, limits: ChildLimits) -> bool:
    """Whether an HDF5 file is one of ours, once a child has opened it and read its maps and first frames.

    Raises
    ------
    BadInput
        The child refused the file, crashed, or did not end within the limits.
    """
    limit = [str(limits.memory_bytes), str(max(1, int(limits.first_answer_s)))]
    try:
        done = subprocess.run(  # noqa: S603 - our own module, no shell
            [sys.executable, "-m", "storage.trial", str(path.resolve()), *limit],
            cwd=Path(__file__).resolve().parents[1],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=limits.first_answer_s,
            check=False,
        )
    except subprocess.TimeoutExpired:
        said = f"reading its start did not end within {limits.first_answer_s:g} s"
        raise BadInput(field=path.name, value="HDF5", limit=said, remedy=REMEDY) from None
    if done.returncode in (OURS, FOREIGN):
        return done.returncode == OURS
    words = done.stderr.decode(errors="replace").strip()[-LONGEST_WORDS:]
    said = words if done.returncode == REFUSED else f"its reader ended with exit code {done.returncode}"
    raise BadInput(field=path.name, value="HDF5", limit=said, remedy=REMEDY)


def main() -> None:
    """Set the limits first, then read."""
    path, memory, cpu = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    confine(memory, path.stat().st_size, cpu)
    from storage.hdf5 import is_ours, open_hdf5

    try:
        if not is_ours(path):
            sys.exit(FOREIGN)
        with open_hdf5(path) as frames:
            frames.online()
            next(iter(frames.batches()), None)
    except BadInput as refused:
        print(refused, file=sys.stderr)
        sys.exit(REFUSED)


if __name__ == "__main__":
    main()
