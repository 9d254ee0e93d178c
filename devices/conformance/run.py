"""All checks one after the other on one instrument, and what came of each."""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import EntryPoint
from typing import Literal

from devices.conformance import beam, column, elsewhere, phases, stage
from devices.conformance.subject import Fails, NotApplicable, Subject
from devices.protocols import Instrument
from devices.registry import GROUP

Check = Callable[[Subject, Instrument], None]

CHECKS: tuple[Check, ...] = (
    beam.gate_blanks_and_says_so,
    phases.stopping_does_no_harm,
    phases.the_clock_runs_on,
    stage.stage_goes_where_it_is_sent,
    stage.stage_refuses_unknown_positions,
    stage.stage_reaches_poses,
    stage.stage_refuses_poses_out_of_range,
    column.column_reads_back,
    column.column_tells_what_changes,
    column.column_takes_the_same_twice,
    column.column_refuses_what_is_out_of_range,
    column.column_snapshot_is_whole,
    phases.scan_resolves_what_was_asked,
    phases.scan_refuses_what_is_out_of_range,
    phases.detector_goes_through_its_phases,
    phases.detector_is_not_armed_out_of_turn,
    phases.detector_refuses_what_it_cannot_do,
    phases.detector_snapshot_is_whole,
    beam.owners_are_not_forgotten,
    beam.gate_lets_through_and_blanks,
    beam.gate_refuses_leases_that_are_none,
    elsewhere.another_process_makes_it_safe,
    beam.valves_close,
)
"""In an order in which none takes away what a later one needs."""


@dataclass(frozen=True)
class Outcome:
    """What came of one check."""

    check: str
    verdict: Literal["passed", "failed", "not applicable"]
    words: str = ""

    def __str__(self) -> str:
        return f"{self.check}: {self.verdict}" + (f" ({self.words})" if self.words else "")


def conform(subject: Subject) -> tuple[Outcome, ...]:
    """Open the instrument, make every check, and close it; a check that fails keeps none of the others from being made.

    After each the beam is blanked. Errors of the driver are outcomes and are not raised, also that it cannot be opened.
    """
    try:
        instrument: object = EntryPoint("subject", subject.driver, GROUP).load()(subject.file, subject.home)
    except (Exception, SystemExit) as error:  # noqa: BLE001 - whatever it raises, that it cannot be opened is told
        return (Outcome("opens", "failed", _told(error)),)
    if not isinstance(instrument, Instrument):
        return (Outcome("opens", "failed", f"{subject.driver} opened a {type(instrument).__name__}, no instrument"),)
    outcomes = [Outcome("opens", "passed"), *(outcome_of(check, subject, instrument) for check in CHECKS)]
    return (*outcomes, _closes(instrument))


def outcome_of(check: Check, subject: Subject, instrument: Instrument) -> Outcome:
    """Make one check; the beam is blanked afterwards, whatever came of it."""
    try:
        check(subject, instrument)
    except NotApplicable as why:
        return Outcome(check.__name__, "not applicable", str(why))
    except Fails as why:
        return Outcome(check.__name__, "failed", str(why))
    except Exception as error:  # noqa: BLE001 - whatever a driver raises, that it raises is what is told
        return Outcome(check.__name__, "failed", f"it raised {_told(error)}")
    finally:
        with suppress(Exception):  # that it does not blank is what a check of its own finds
            instrument.gate.blank()
    return Outcome(check.__name__, "passed")


def _closes(instrument: Instrument) -> Outcome:
    """Closing works, and again does no harm."""
    try:
        for _ in range(2):
            instrument.close()
    except Exception as error:  # noqa: BLE001 - as above
        return Outcome("closes", "failed", _told(error))
    return Outcome("closes", "passed")


def _told(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"
