"""How the database has the calibrations of some modes: a look that loads neither devices nor estimators."""

from collections.abc import Iterable, Mapping

from db.calibrations import Standing, standing_calibration
from db.clock import utc_now
from db.engine import Engine, reader


def recorded(engine: Engine, instrument: str, of_kind: Mapping[str, str], kinds: Iterable[str]) -> dict[str, Standing]:
    """How the database has the calibrations of these kinds for mode keys by kind: no instrument is asked."""
    now = utc_now()
    with reader(engine) as session:
        return {
            kind: standing_calibration(session, kind=kind, mode_key=of_kind[kind], instrument=instrument, now=now)
            for kind in kinds
        }
