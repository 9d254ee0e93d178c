"""What a person sees while a run goes on: the story line by line, and a bar with rate and time left."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from devices.acquire import Progress as Acquired
from stem4d.names import plainly
from tasks.lab import Lab, Told

_STYLES = {
    "run started": "bold",
    "stopped early": "yellow",
    "frames lost": "yellow",
    "remedy": "yellow",
    "safety": "red",
    "night started": "bold",
    "night ended": "bold",
}

QUEUE_SHOWN = 0.1
"""A queue that is less full is none to watch."""


class Screen:
    """Shows what a lab tells, on standard error so that standard output stays for facts."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._bars: dict[str, TaskID] = {}

    def told(self, one: Told) -> None:
        """A line of the story."""
        self._clear()
        style = _STYLES.get(one.kind, "")
        time = f"{datetime.now(UTC):%H:%M:%S}"
        text = f"{time}  {one.kind:<20} {plainly(one.message)}"
        self._progress.console.print(escape(text), style=style, soft_wrap=True, highlight=False)

    def frames(self, what: str, state: Acquired) -> None:
        """How an acquisition stands."""
        if what not in self._bars:
            self._bars[what] = self._progress.add_task(what, total=state.frames_total, rate="")
        self._progress.update(self._bars[what], completed=state.frames_done, rate=pace(state))
        if state.ended:
            self._clear()

    def _clear(self) -> None:
        for bar in self._bars.values():
            self._progress.remove_task(bar)
        self._bars.clear()


def pace(state: Acquired) -> str:
    """The rate of frames, and what is not as it should be: losses, and a receiver that cannot keep up."""
    parts = [f"{state.frame_rate_hz:,.0f} frames/s", state.frames.losses(ended=state.ended)]
    if state.queue_share >= QUEUE_SHOWN:
        parts.append(f"queue {state.queue_share:.0%} full")
    if state.held_up_s:
        parts.append(f"detector held up {state.held_up_s:.1f} s")
    return ", ".join(part for part in parts if part)


@contextmanager
def screen(opened: Lab, *, quiet: bool) -> Iterator[None]:
    """Show a lab's story and progress for the length of the block."""
    if quiet:
        yield
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.completed:,.0f} of {task.total:,.0f} frames"),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        shown = Screen(progress)
        opened.on_told, opened.on_progress = shown.told, shown.frames
        yield
