"""What the database alone says before a night is asked for: whether it goes on, and what is calibrated already."""

from db.dose import area_fluence, area_id
from db.engine import reader
from db.resume import NightBefore, NightLeft, night_before, night_left
from flows.queue import Queued
from flows.recorded import recorded_database
from stem4d.errors import BadInput
from stem4d.instrument import InstrumentFile
from stem4d.model import canonical_json, sha256_of
from stem4d.night import Night
from stem4d.plan import Plan
from storage.settings import Settings


def broken_off(settings: Settings, instrument: str, night: Night, queued: tuple[Queued, ...]) -> NightLeft | None:
    """The last night of this content and these plans on an instrument, where it was broken off; else None."""
    if not settings.home.exists():
        return None
    with recorded_database(settings) as engine, reader(engine) as session:
        sha256 = sha256_of(canonical_json(night))
        return same_night(night_left(session, sha256=sha256, instrument=instrument), queued)


def last_of_its_name(settings: Settings, instrument: str, night: Night) -> NightBefore | None:
    """The last night of this name on an instrument, whether it is the same or not; None where there was none."""
    if not settings.home.exists():
        return None
    with recorded_database(settings) as engine, reader(engine) as session:
        return night_before(session, name=night.name, instrument=instrument)


def same_night(left: NightLeft | None, queued: tuple[Queued, ...]) -> NightLeft | None:
    """The night, if its plans are those that are asked for now; another plan is another night."""
    now = [(one.target.name, sha256_of(canonical_json(one.plan))) for one in queued]
    return left if left and [(one.name, one.plan_sha256) for one in left.targets] == now else None


def recorded_calibration(settings: Settings, file: InstrumentFile, plan: Plan, kind: str) -> bool:
    """Whether a calibration of a kind is recorded and holds for a plan."""
    from flows.standing import looked_up

    try:
        return all(line.good for line in looked_up(settings, file, plan, (kind,)))
    except BadInput:  # nothing was run here yet
        return False


def registered_budget(settings: Settings, sample: str, area: str) -> float | None:
    """The fluence budget by which an area is known [e/Å²]; None where it is not, or nothing was run here yet."""
    if not settings.home.exists():
        return None
    with recorded_database(settings) as engine, reader(engine) as session:
        known = area_id(session, sample=sample, area=area)
        return None if known is None else area_fluence(session, area_id=known).budget_e_per_a2


def refuse_resume(night: Night) -> BadInput:
    """For ``--resume`` where there is nothing to go on with."""
    return BadInput(
        field="--resume",
        value=night.name,
        limit="no night of this content and these plans has anything left to do",
        remedy="Leave --resume out to start it afresh",
    )
