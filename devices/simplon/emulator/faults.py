"""What can be made to go wrong: a strict model of each fault, and a book of those that are set."""

from collections.abc import Iterable, Sequence
from threading import Lock
from typing import Annotated, Any, Literal, get_args

from pydantic import Field, TypeAdapter, ValidationError

from stem4d.errors import BadInput
from stem4d.model import Count, Positive, Strict

Number = Annotated[int, Field(ge=0)]


class FrameFault(Strict):
    """Befalls frames ``frame`` to ``frame + count - 1`` of every series."""

    kind: Literal["drop", "duplicate", "reorder", "corrupt", "truncate", "stall", "wrap"]
    frame: Number = 0
    count: Count = 1
    bit: int | None = None
    """corrupt: which bit of the packed frame is flipped, modulo its length; the one in its middle if not given."""
    keep_bytes: Number | None = None
    """truncate: how much of the packed frame is left; half if not given."""
    by: Count = 1
    """reorder: how many later frames overtake it."""
    seconds: Positive = 1.0
    """stall: how long nothing is sent before the frame [s]."""

    def hits(self, number: int) -> bool:
        """Whether it befalls a frame."""
        return self.frame <= number < self.frame + self.count


class SeriesFault(Strict):
    """Befalls every series."""

    kind: Literal["late_start", "stray_series", "stuck_acquire", "no_end", "overrun", "silent", "fail"]
    frame: Number = 0
    """late_start: the frame after which the start comes. stray_series: the frame before which frames of another
    series come; 0 is before the start. fail: the frame at which the detector goes to ``error``."""
    count: Count = 1
    """stray_series, overrun: frames too many."""


class RequestFault(Strict):
    """Befalls the next ``count`` requests whose path holds a text."""

    kind: Literal["slow_arm", "slow", "reset", "cut", "http_error", "html", "huge_body"]
    path: str = ""
    method: Literal["", "GET", "PUT"] = ""
    count: Count = 1
    status: Annotated[int, Field(ge=400, le=599)] = 500
    """http_error: the answer's status."""
    seconds: Positive = 1.0
    """slow, slow_arm: how long the answer takes [s]."""
    after: bool = False
    """The request is carried out, and only its answer suffers."""
    body_bytes: Annotated[int, Field(ge=1, le=2**28)] = 2 * 2**20
    """huge_body: length of the answer."""

    def befalls(self, method: str, path: str) -> bool:
        """Whether a request is meant."""
        wanted = self.path or ("detector/api" if self.kind == "slow_arm" else "")
        arms = self.kind != "slow_arm" or path.endswith("command/arm")
        return arms and wanted in path and self.method in ("", method)


Fault = FrameFault | SeriesFault | RequestFault
FAULTS: TypeAdapter[tuple[Fault, ...]] = TypeAdapter(tuple[Fault, ...])
_MODELS: tuple[type[Fault], ...] = (FrameFault, SeriesFault, RequestFault)
KINDS = {kind: model for model in _MODELS for kind in get_args(model.model_fields["kind"].annotation)}


class FaultBook:
    """The faults that are set; used by the sender and by every request at once."""

    def __init__(self, faults: Sequence[Fault] = ()) -> None:
        self._lock = Lock()
        self._faults = list(faults)

    def set(self, faults: Iterable[Fault]) -> None:
        """Put these in the place of all others."""
        with self._lock:
            self._faults = list(faults)

    def all(self) -> tuple[Fault, ...]:
        """Those that are set, requests counted down."""
        with self._lock:
            return tuple(self._faults)

    def of_frame(self, number: int) -> dict[str, FrameFault]:
        """What befalls a frame, by kind."""
        if not self._faults:
            return {}
        return {each.kind: each for each in self.all() if isinstance(each, FrameFault) and each.hits(number)}

    def of_series(self) -> dict[str, SeriesFault]:
        """What befalls a series, by kind."""
        return {each.kind: each for each in self.all() if isinstance(each, SeriesFault)}

    def take_request(self, method: str, path: str) -> RequestFault | None:
        """The first fault meant for a request, which is then spent by one."""
        with self._lock:
            for index, each in enumerate(self._faults):
                if isinstance(each, RequestFault) and each.befalls(method, path):
                    left = each.count - 1
                    self._faults[index : index + 1] = [each.model_copy(update={"count": left})] if left else []
                    return each
        return None


def read_faults(document: Any) -> tuple[Fault, ...]:
    """Faults of a JSON list.

    Raises
    ------
    BadInput
        Naming the fault that is none.
    """
    if not isinstance(document, list):
        raise BadInput(field="faults", value=document, limit='a list, as in [{"kind": "drop", "frame": 3}]')
    return tuple(_read(each) for each in document)


def _read(document: Any) -> Fault:
    kind = document.get("kind") if isinstance(document, dict) else None
    if not isinstance(kind, str) or kind not in KINDS:
        raise BadInput(field="fault", value=kind, limit=f"one of {', '.join(KINDS)}")
    try:
        return KINDS[kind].model_validate(document)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in (kind, *first["loc"]))
        raise BadInput(field=field, value=first["input"], limit=first["msg"]) from None


def fault_of_text(text: str) -> Fault:
    """A fault as the command line takes it: ``no_end`` or ``corrupt=frame:10,bit:1000``."""
    kind, _, rest = text.partition("=")
    document: dict[str, Any] = {"kind": kind}
    for part in filter(None, rest.split(",")):
        name, colon, value = part.partition(":")
        if not colon:
            raise BadInput(field=f"--fault {text}", value=part, limit="has to be a name, a colon and a value")
        document[name] = _plain(value)
    return _read(document)


def _plain(text: str) -> Any:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text
