"""What recording a run takes: alone, step by step and all at once, and by 32 recorders that write at one time."""
from collections.abc import Iterator

from benchmarks.harness import Figure
from db.engine import Engine


def one_after_another(backend: str, engine: Engine) -> Iterator[Figure]:
    yield from ()


def all_at_once(engine: Engine) -> Iterator[Figure]:
    yield from ()
