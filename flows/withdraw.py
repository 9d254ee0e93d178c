"""A person withdraws a calibration: in the database alone, recorded as the withdrawals of runs are."""

from dataclasses import dataclass
from getpass import getuser
from os import getuid

from db.calibrations import invalidate
from db.engine import reader, writer
from db.questions.calibrations import described, used_by
from db.vocabulary import USABLE
from flows.recorded import recorded_database
from stem4d.errors import BadInput
from storage.settings import Settings


@dataclass(frozen=True)
class Withdrawn:
    """What was withdrawn, and what rests on it."""

    number: int
    kind: str
    instrument: str
    by: str
    reason: str
    used_by: tuple[str, ...]
    """Runs that used it; their data are as they were judged."""


def withdraw_by_hand(settings: Settings, number: int, reason: str) -> Withdrawn:
    """Withdraw a calibration for every run to come.

    Raises
    ------
    BadInput
        Without a reason, where nothing was run yet, for a number that there is not, for one that was withdrawn before,
        or that no run uses anyway.
    """
    if not reason.strip():
        raise BadInput(field="--because", value=reason, limit="has to say why", remedy="Add --because TEXT")
    with recorded_database(settings) as engine:
        with reader(engine) as session:
            found = described(session, calibration_id=number)
            users = used_by(session, calibration_id=number)
        if found["withdrawn"] is not None:
            told = found["withdrawn"]
            raise BadInput(
                field="--withdraw", value=number, limit=f"was withdrawn already by {told['by']}: {told['reason']}"
            )
        if found["verdict"] not in USABLE:
            raise BadInput(field="--withdraw", value=number, limit="is kept as evidence only: no run uses it")
        by = _user()
        with writer(engine) as session:
            invalidate(session, number, reason, by=by)
    return Withdrawn(number, found["kind"], found["instrument"], by, reason, tuple(users))


def _user() -> str:
    """Who it is; a container may run as a number that has no name."""
    try:
        return getuser()
    except (KeyError, OSError):
        return f"user {getuid()}"
