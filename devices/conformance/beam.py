"""Checks of blanker and valves: a blank is acknowledged, a lease that is none is refused, again does no harm."""

from dataclasses import replace
from math import nan

from devices.conformance.subject import Subject, applies, need
from devices.protocols import Instrument
from stem4d.dose import DoseLease
from stem4d.errors import DoseRefused


def gate_blanks_and_says_so(subject: Subject, instrument: Instrument) -> None:
    """The beam is blanked and reads so, twice over."""
    for _ in range(2):
        instrument.gate.blank()
        blanked = instrument.gate.is_blanked()
        applies(blanked is not None, "the gate was told to blank, and cannot tell whether it is")
        need(blanked is True, f"told to blank, the gate reads {blanked!r}")


def gate_lets_through_and_blanks(subject: Subject, instrument: Instrument) -> None:
    """Under a lease the beam goes through and reads so; the token is kept; blanking is acknowledged."""
    _may_unblank(subject, instrument)
    gate = instrument.gate
    lease = subject.lease(instrument)
    gate.unblank(lease)
    on = gate.is_blanked()
    newest = gate.newest_token()
    gate.blank()
    off = gate.is_blanked()
    need(on in (False, None), "the beam was let through and the gate still reads blanked")
    need(newest == lease.token, f"the beam was let through for token {lease.token}, the newest is said to be {newest}")
    need(off in (True, None), "the beam was blanked after an exposure and the gate reads it on")


def gate_refuses_leases_that_are_none(subject: Subject, instrument: Instrument) -> None:
    """Expired, older than the newest, of an owner that another has followed, no figure: `DoseRefused`, and blanked."""
    _may_unblank(subject, instrument)  # a driver that fails lets the beam through
    gate = instrument.gate
    gate.unblank(subject.lease(instrument))
    gate.blank()
    refused = {
        "one that has expired": subject.lease(instrument, lasts_s=-0.001),
        "one with an older token": subject.lease(instrument, older=1),
        "one that ends at no time": replace(subject.lease(instrument), expires_monotonic_s=nan),
    }
    if gate.see_owner(0) > 0:
        refused["one of an earlier owner"] = subject.lease(instrument, earlier_owner=1)
    for words, lease in refused.items():
        need(_refuses(instrument, lease), f"the beam was let through under a lease that is none: {words}")
        need(gate.is_blanked() in (True, None), f"the lease was refused, {words}, and the beam is on")


def owners_are_not_forgotten(subject: Subject, instrument: Instrument) -> None:
    """The newest owner's token is told, and an earlier one does not take its place."""
    newest = instrument.gate.see_owner(0)
    again = instrument.gate.see_owner(max(newest - 1, 0))
    need(again == newest, f"the newest owner's token was {newest}, and is {again} after an earlier one was seen")


def valves_close(subject: Subject, instrument: Instrument) -> None:
    """Closing works, and again does no harm. The last check: the column has no beam afterwards."""
    applies(subject.may_close_valves, "the valves may not be closed")
    for _ in range(2):
        instrument.valves.close()


def _refuses(instrument: Instrument, lease: DoseLease) -> bool:
    try:
        instrument.gate.unblank(lease)
    except DoseRefused:
        return True
    instrument.gate.blank()
    return False


def _may_unblank(subject: Subject, instrument: Instrument) -> None:
    applies(subject.may_unblank, "the beam may not be let through")
    if subject.positions:
        instrument.stage.go_to(subject.positions[0])
