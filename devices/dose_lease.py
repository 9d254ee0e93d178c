"""The check that every beam gate makes before it lets the beam through."""

from math import isfinite

from stem4d.dose import DoseLease
from stem4d.errors import DoseRefused

LARGEST_TOKEN = 2**53
"""Beyond it JSON readers lose digits; a million exposures a day would take 24 million years to get there."""


def require_token(token: int) -> int:
    """Return a token that a log can hold; raises `ValueError` for any other."""
    if not 0 <= token <= LARGEST_TOKEN:
        raise ValueError(f"token {str(token)[:40]} is not between 0 and {LARGEST_TOKEN}")
    return token


def require_owner(owner_token: int, newest_owner_token: int) -> None:
    """Raise `DoseRefused` for an owner that has been followed by another, or whose token no log can hold."""
    if not 0 <= owner_token <= LARGEST_TOKEN:
        raise DoseRefused(f"owner token {str(owner_token)[:40]} is not between 0 and {LARGEST_TOKEN}")
    if owner_token < newest_owner_token:
        raise DoseRefused(
            f"this owner's token is {owner_token}, but that of owner {newest_owner_token} was seen: another owner has "
            "taken the instrument. Stop here; whoever is to use it takes its lease anew"
        )


def require_figures(lease: DoseLease) -> None:
    """Raise `DoseRefused` for a lease whose fluence or end is no number, which no message carries as it is."""
    if not (isfinite(lease.fluence_e_per_a2) and isfinite(lease.expires_monotonic_s)):
        raise DoseRefused(f"the dose lease for {lease.area} has a fluence or an end that is no number")


def require_valid(lease: DoseLease, newest_token: int, newest_owner_token: int, monotonic_s: float) -> None:
    """Raise `DoseRefused` for a lease that has expired, or carries a token older than the newest seen.

    Parameters
    ----------
    lease : DoseLease
        As it was shown to the gate.
    newest_token : int
        Highest token of a lease that this instrument has seen.
    newest_owner_token : int
        Highest token of an owner that it has seen.
    monotonic_s : float
        The real monotonic clock [s].
    """
    require_figures(lease)
    if lease.token > LARGEST_TOKEN:
        raise DoseRefused(
            f"the dose lease for {lease.area} carries a token above {LARGEST_TOKEN}, the highest there is"
        )
    late_s = monotonic_s - lease.expires_monotonic_s
    if late_s >= 0:
        raise DoseRefused(f"the dose lease for {lease.area} expired {late_s:.3g} s ago; mint a new one")
    require_owner(lease.owner_token, newest_owner_token)
    if lease.token < newest_token:
        raise DoseRefused(
            f"the dose lease for {lease.area} carries token {lease.token}, but {newest_token} was seen: "
            "another owner has taken the instrument. If it is in use elsewhere, stop here; every new exposure takes "
            "a token above the newest"
        )
