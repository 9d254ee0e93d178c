"""Figures with goals, the table and bench.json they end up in, and the environments of the peers."""

import json
import operator
import os
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).resolve().parent.parent
PEERS = ROOT / "benchmarks" / "peers"
COMPARISONS = {">=": operator.ge, "<=": operator.le}

Run = Callable[[], Iterable["Figure"]]


@dataclass(frozen=True)
class Figure:
    """One measured number.

    ``goal`` is ``">= 3"``, ``"<= 3"`` or empty for a number that is only reported; ``against`` names the peer or the
    limit measured in the same run.
    """

    name: str
    value: float
    unit: str
    goal: str
    against: str
    detail: str

    @property
    def holds(self) -> bool:
        """Whether the value reaches its goal; a number without one always does."""
        if not self.goal:
            return True
        comparison, bound = self.goal.split()
        return bool(COMPARISONS[comparison](self.value, float(bound)))

    def as_dict(self) -> dict[str, object]:
        """What stands in bench.json."""
        return {**asdict(self), "holds": self.holds}


def run(benches: dict[str, Run], only: str, report: Path) -> int:
    """Run the benches (all, or those named in ``only``, with commas), print the table, write the report; exit code."""
    console = Console(width=None if sys.stdout.isatty() else 160)
    chosen = only.split(",") if only else list(benches)
    if wrong := [one for one in chosen if one not in benches]:
        console.print(f"ONLY={','.join(wrong)}: no such bench; there are {', '.join(benches)}")
        return 2
    figures: list[Figure] = []
    failed = False
    for topic, bench in benches.items():
        if topic in chosen:
            console.print(f"measuring {topic} ...")
            try:
                figures.extend(bench())
            except Exception:  # noqa: BLE001 - the other benches still count
                console.print_exception()
                failed = True
    console.print(_table(figures))
    report.write_text(json.dumps([figure.as_dict() for figure in figures], indent=1) + "\n")
    missed = sum(not figure.holds for figure in figures)
    console.print(f"{len(figures)} figures in {report.name}, {missed} short of their goal")
    return 1 if failed else 0


def peer_python(peer: str) -> Path:
    """Python of the peer's own environment, made from ``peers/PEER.txt`` when it is missing or its pins changed."""
    pins = PEERS / f"{peer}.txt"
    home = ROOT / ".venvs" / peer
    made_from = home / "made-from.txt"
    if not (made_from.is_file() and made_from.read_text() == pins.read_text()):
        python = home / "bin" / "python"
        subprocess.run([sys.executable, "-m", "venv", "--clear", home], check=True)
        subprocess.run([python, "-m", "pip", "install", "--quiet", "-r", pins], check=True)
        made_from.write_text(pins.read_text())
    return home / "bin" / "python"


class Peer:
    """A peer's program: one JSON line in, one JSON line out; in its own environment, or in another one's ``python``."""

    def __init__(self, peer: str, python: Path | None = None, **environment: str) -> None:
        self._program = PEERS / f"{peer}_peer.py"
        ours = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        self._process = subprocess.Popen(
            [python or peer_python(peer), self._program],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=ours | environment,
        )

    def ask(self, **question: object) -> dict[str, object]:
        """The answer to one question; RuntimeError if the peer has died."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(question) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"{self._program.name} ended with code {self._process.wait()}")
        answer: dict[str, object] = json.loads(line)
        return answer

    def __enter__(self) -> "Peer":
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            self._process.wait(30)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def _table(figures: Iterable[Figure]) -> Table:
    table = Table("figure", "value", "unit", "goal", "holds", "against", "detail")
    for row in _rows(figures):
        table.add_row(*row)
    return table


def _rows(figures: Iterable[Figure]) -> Iterator[tuple[str, ...]]:
    for f in figures:
        holds = ("yes" if f.holds else "NO") if f.goal else ""
        yield f.name, f"{f.value:.3g}", f.unit, f.goal, holds, f.against, f.detail
