"""Pictures that are there already: those of a written report, and the small virtual image that a data file keeps."""

from base64 import b64decode
from binascii import Error as NotBase64
from dataclasses import dataclass
from functools import lru_cache
from html.parser import HTMLParser
from io import BytesIO
from pathlib import Path
from socket import gethostname
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.image import imsave

from db.questions.files import files_of_run
from stem4d.errors import NightbeamError
from storage.disk import ordinary_bytes
from storage.hdf5 import is_ours, open_hdf5

if TYPE_CHECKING:
    from db.engine import Session

VIRTUAL_DISK = "virtual/disk"
"""The bright-field image among what a file keeps beside its frames."""
PREFIX = "data:image/png;base64,"
SMALL_PX = 96
"""Longer side of a small picture; more positions than that are left out, not averaged."""
LARGEST_REPORT = 64 * 2**20
"""A page that is larger was not written by us."""


@dataclass(frozen=True)
class Shown:
    """One picture of a report."""

    data: bytes
    alt: str
    width: str
    height: str
    title: str


class _Pictures(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[Shown] = []
        self._title, self._in_title, self._folded = "", False, 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        facts = {name: value or "" for name, value in attrs}
        if tag == "h3":
            self._title, self._in_title = "", True
        elif tag == "details":
            self._folded += 1
        elif tag == "img" and not self._folded and facts.get("src", "").startswith(PREFIX):
            try:
                data = b64decode(facts["src"].removeprefix(PREFIX), validate=True)
            except NotBase64:
                return
            alt, width, height = (facts.get(name, "") for name in ("alt", "width", "height"))
            self.found.append(Shown(data, alt, width, height, self._title.strip()))

    def handle_endtag(self, tag: str) -> None:
        self._in_title = self._in_title and tag != "h3"
        self._folded -= tag == "details"

    def handle_data(self, data: str) -> None:
        if self._in_title:
            self._title += data


def pictures_of(report: Path) -> tuple[Shown, ...]:
    """The pictures that lie open in a report, in its order; none where it is not there, or is no ordinary file."""
    try:
        return _pictures_of(report, report.lstat().st_mtime_ns)
    except OSError:
        return ()


@lru_cache(maxsize=8)
def _pictures_of(report: Path, _changed: int) -> tuple[Shown, ...]:
    data = ordinary_bytes(report, LARGEST_REPORT + 1)
    if len(data) > LARGEST_REPORT:
        return ()
    parser = _Pictures()
    parser.feed(data.decode(errors="replace"))
    return tuple(parser.found)


def thumbnail(session: "Session", run: str) -> bytes:
    """The virtual bright-field image of a run's first pass as a small PNG; an even grey where there is none.

    Raises
    ------
    BadInput
        For an unknown run.
    """
    return picture_of_run(session, run, 1) or _png(np.full((2, 3), np.nan))


def picture_of_run(session: "Session", run: str, least_px: int) -> bytes | None:
    """The same for a page that shows it as large as it is: at least so large; None where there is none.

    Raises
    ------
    BadInput
        For an unknown run.
    """
    for one in files_of_run(session, name=run):
        if one.purpose == "acquisition" and (here := one.paths(gethostname())):
            path = Path(here[0])
            try:
                return _small(path, path.stat().st_mtime_ns, least_px)
            except (OSError, NightbeamError, KeyError):
                break
    return None


@lru_cache(maxsize=512)
def _small(path: Path, _changed: int, least_px: int) -> bytes | None:
    if not is_ours(path):
        return None
    # Of an image per position that was made while the frames came; no frame is read.
    with open_hdf5(path) as frames:
        image = np.where(frames.recorded, frames.online()[VIRTUAL_DISK], np.nan)
    small = small_image(image)
    times = -(-least_px // max(small.shape))
    return _png(small.repeat(times, axis=0).repeat(times, axis=1))


def small_image(image: np.ndarray) -> np.ndarray:
    """An image with every so many rows and columns left out, to be small."""
    every = max(1, -(-max(image.shape) // SMALL_PX))
    return np.asarray(image[::every, ::every], np.float64)


def _png(image: np.ndarray) -> bytes:
    known = image[np.isfinite(image)]
    low, high = np.percentile(known, (1, 99)) if known.size else (0.0, 1.0)
    buffer = BytesIO()
    # What was not recorded lies in the middle of the greys.
    shown = np.where(np.isfinite(image), image, (low + high) / 2)
    imsave(buffer, shown, format="png", cmap="gray", vmin=low, vmax=max(high, low + 1e-9))
    return buffer.getvalue()
