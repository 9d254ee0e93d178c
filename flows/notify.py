"""Tells people of a night by Apprise: its end, a stop that needs somebody, one that never started or was lost."""

import json
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Literal

from storage.disk import replace_text
from storage.settings import Settings
from tasks.within import TooLong, within

What = Literal["ended", "needs_you", "asks", "not_started", "lost"]
SAME_AGAIN = timedelta(minutes=10)
"""Before the same is told again."""
MOST_AN_HOUR = 6
"""Of one kind: nights that end do not silence a question, or a night that was lost."""
LONGEST_S = 15.0
"""A message takes no longer: its night has ended, and its instrument waits to be let go."""
FILE = "notified.json"

Send = Callable[[tuple[str, ...], str, str, What], str]
"""Addresses, title, text and kind; gives why not all was sent, or nothing."""


def tell_people(
    settings: Settings,
    what: What,
    title: str,
    text: str,
    *,
    now: Callable[[], datetime] = lambda: datetime.now(UTC),
    send: Send | None = None,
) -> str:
    """Send a message, unless too many were sent; gives why it was not sent, empty where it was or nobody wants any.

    It never raises: a message that cannot be sent ends nothing. How many were held back stands in the next one.
    """
    addresses = tuple(one.get_secret_value() for one in settings.notify)
    if not addresses:
        return ""
    path, at = settings.home / FILE, now()
    sent, held_back = _sent(path, at)
    key = f"{what}: {title}"
    recent = [when for kind, when in sent if kind == key and at - when < SAME_AGAIN]
    alike = [when for kind, when in sent if kind.startswith(f"{what}: ")]
    if recent or len(alike) >= MOST_AN_HOUR:
        _keep(path, sent, held_back + 1)
        if recent:
            return f"held back: the same was told {(at - recent[-1]).total_seconds() / 60:.0f} min ago"
        return f"held back: {len(alike)} messages of this kind were sent within the hour"
    more = f"\n{held_back} more messages were held back before this one." if held_back else ""
    trouble = _within(LONGEST_S, lambda: (send or _by_apprise)(addresses, title, f"{text}{more}", what))
    _keep(path, [*sent, (key, at)], 0 if not trouble else held_back)
    return trouble


def _within(seconds: float, act: Callable[[], str]) -> str:
    """Do something for so long at most: a service that trickles holds up no instrument."""
    try:
        return within(seconds, "nightbeam-notify", act)
    except TooLong:
        return f"the message was not sent within {seconds:g} s"
    except Exception as error:  # noqa: BLE001 - whatever a service or its library raises, the night has ended
        # The text of an error may have the address in it, which is a secret.
        return f"the message could not be sent: {type(error).__name__}"


def _by_apprise(addresses: tuple[str, ...], title: str, text: str, what: What) -> str:
    import apprise

    kinds = {
        "ended": apprise.NotifyType.INFO,
        "needs_you": apprise.NotifyType.WARNING,
        "asks": apprise.NotifyType.WARNING,
    }
    people = apprise.Apprise()
    unusable = [number for number, address in enumerate(addresses, 1) if not people.add(address)]
    if unusable:
        return f"address {', '.join(map(str, unusable))} of the setting notify is none that Apprise knows"
    if not people.notify(title=title, body=text, notify_type=kinds.get(what, apprise.NotifyType.FAILURE)):
        return "the message did not reach every address of the setting notify"
    return ""


def _sent(path: Path, at: datetime) -> tuple[list[tuple[str, datetime]], int]:
    """Kind and time of what was sent within the hour, and how many were held back since."""
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
        sent = [(str(kind), datetime.fromisoformat(when)) for kind, when in told["sent"]]
        # A clock that was set back makes none of them newer than now.
        within = [(kind, when) for kind, when in sent if timedelta(0) <= at - when < timedelta(hours=1)]
        return within, int(told["held_back"])
    except (OSError, ValueError, KeyError, TypeError):
        return [], 0


def _keep(path: Path, sent: list[tuple[str, datetime]], held_back: int) -> None:
    with suppress(OSError):
        told = {"sent": [(kind, when.isoformat()) for kind, when in sent], "held_back": held_back}
        replace_text(path, json.dumps(told))
