"""Which messages of a stream belong to our series: that whose start message carries our token."""

from collections import deque

from devices.simplon.messages import End, Image, Start

KEPT_BYTES = 64 * 2**20
"""Images of a series that nobody announced yet; the oldest are let go when there are more."""
KNOWN_SERIES = 1000


class Series:
    """Our series, once it is known; before that, images of any that might be it."""

    def __init__(self, token: str) -> None:
        self._token = token
        self.ours: str | None = None
        self.ended = False
        self.strays = 0
        self.total_strays = 0
        self._others: deque[str] = deque(maxlen=KNOWN_SERIES)
        self._ends: deque[str] = deque(maxlen=KNOWN_SERIES)
        self._waiting: deque[Image] = deque()
        self._waiting_bytes = 0

    @property
    def waiting(self) -> int:
        """Images that are kept for a start message."""
        return len(self._waiting)

    def is_ours(self, image: Image) -> bool:
        """Whether an image is known to be one of ours."""
        return image.series_unique_id == self.ours

    def keep(self, image: Image) -> None:
        """Take an image that is not known to be ours: it may be, when its start message comes."""
        if self.ours is not None or image.series_unique_id in self._others:
            self.strays += 1
            return
        self._waiting.append(image)
        self._waiting_bytes += _size(image)
        while self._waiting_bytes > KEPT_BYTES and len(self._waiting) > 1:
            self._waiting_bytes -= _size(self._waiting.popleft())
            self.strays += 1

    def begin(self, start: Start) -> bool:
        """Take a start message; true where it is ours."""
        # As text: a foreign message may hold an array there, which does not compare.
        if self.ours is not None or str(start.user_data) != self._token:
            self.strays += 1
            if start.series_unique_id != self.ours:
                self._others.append(start.series_unique_id)
            return False
        self.ours = start.series_unique_id
        self.ended = self.ours in self._ends
        return True

    def end(self, end: End) -> None:
        """Take an end message."""
        if self.ours is None:
            self._ends.append(end.series_unique_id)
        if end.series_unique_id == self.ours:
            self.ended = True
        else:
            self.strays += 1

    def kept(self) -> list[Image]:
        """The images of ours that came before their start message; all others become strays."""
        ours = [image for image in self._waiting if image.series_unique_id == self.ours]
        self.strays += len(self._waiting) - len(ours)
        self._waiting.clear()
        return ours

    def new_strays(self) -> int:
        """Messages of others since this was last asked."""
        new, self.strays = self.strays, 0
        self.total_strays += new
        return new


def _size(image: Image) -> int:
    return sum(len(frame.payload) for frame in image.channels.values())
