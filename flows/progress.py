"""How far a night has come, as a bar in Prefect: kept by a thread beside the night, which asks it nothing."""

import re
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Event, Thread
from typing import Any
from uuid import UUID

from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import ArtifactCreate, ArtifactUpdate

from flows.artifacts import away, hand_over, key_of
from flows.flow_run import flow_run_here
from flows.going import Going
from flows.markdown import escaped
from stem4d.predict import predict

EVERY_S = 2.0
"""How often at most."""
LEAVES_WITHIN_S = 3.0
_PASS = re.compile(r" pass ([0-9]+)/([0-9]+)$")


class Share:
    """What of the predicted time of a night's targets is done."""

    def __init__(self, going: Going) -> None:
        self._going = going
        self._beam_s = {name: predict(one.plan).total_time_s for name, one in going.queued.items()}
        self._target_s = going.night.overheads.target_s

    def percent(self) -> float:
        """Between 0 and 100. Read while the night goes on: a figure may be that of a moment ago."""
        ended = {target.name for target, _outcome in tuple(self._going.outcomes)}
        held = set(self._going.held_back())
        total_s = sum(self._all_s(name) for name in self._beam_s if name not in held)
        running = self._going.control.running
        now_s = self._beam_s[running] * exposed(dict(self._going.status.facts)) if running else 0.0
        done_s = sum(self._all_s(name) for name in ended if name not in held) + (now_s if running not in ended else 0.0)
        # Each change is an event in Prefect's database: a night makes a thousand of a tenth of a percent.
        return min(100.0, round(100 * done_s / total_s, 1)) if total_s else 0.0

    def _all_s(self, name: str) -> float:
        return self._beam_s[name] + self._target_s

    def words(self) -> str:
        """The same for people."""
        facts = dict(self._going.status.facts)
        states = Counter(outcome.state.value for _target, outcome in tuple(self._going.outcomes))
        parts = [f"{states.total()} of {len(self._beam_s)} targets ended", *(f"{n} {one}" for one, n in states.items())]
        if self._going.control.running:
            parts.append(f"now {self._going.control.running} ({facts.get('stage') or 'begins'})")
        if facts.get("waiting_for"):
            parts.append(f"waits: {facts['waiting_for']}")
        if facts.get("predicted_left"):
            parts.append(f"{facts['predicted_left']} of instrument time were left when the last target was chosen")
        return escaped("; ".join(parts))


def exposed(facts: dict[str, Any]) -> float:
    """The share of the running target's passes that is recorded, by the status of the night."""
    scan = facts.get("scan") or {}
    found = _PASS.search(str(scan.get("name", "")))
    if found is None or not scan.get("frames_total"):
        return 0.0
    number, passes = int(found[1]), int(found[2])
    return float((number - 1 + scan["frames_done"] / scan["frames_total"]) / passes)


@contextmanager
def progress_shown(going: Going) -> Iterator[None]:
    """A bar for the length of the block, where there is a flow run to show it."""
    here = flow_run_here()
    if here is None:
        yield
        return
    share = Share(going)
    ids = hand_over(going.opened, lambda: (_bar(going.name, share, here.id),))
    if not ids:
        yield
        return
    over, trouble = Event(), list[str]()
    beside = Thread(target=_kept, args=(ids[0], share, over, trouble), daemon=True, name="nightbeam-progress")
    beside.start()
    try:
        yield
    finally:
        over.set()
        beside.join(LEAVES_WITHIN_S)
        if trouble:
            away(going.opened, trouble[0])


def _bar(name: str, share: Share, flow_run: UUID) -> ArtifactCreate:
    key = key_of("progress", name)
    return ArtifactCreate(
        key=key, type="progress", description=share.words(), data=share.percent(), flow_run_id=flow_run
    )


def _kept(bar: UUID, share: Share, over: Event, trouble: list[str]) -> None:
    """Bring the bar up to date until it is over, and once more then."""
    shown: tuple[float, str] | None = None
    try:
        with get_client(sync_client=True) as client:
            ended = False
            while not ended:
                ended = over.wait(EVERY_S)
                now = share.percent(), share.words()
                if now != shown:
                    client.update_artifact(bar, ArtifactUpdate(data=now[0], description=now[1]))
                    shown = now
    except Exception as error:  # noqa: BLE001 - whatever Prefect or its client raises; the night tells it
        trouble.append(f"{type(error).__name__}: {error}")
