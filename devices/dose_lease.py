"""The check that every beam gate makes before it lets the beam through."""

from stem4d.dose import DoseLease
from stem4d.errors import DoseRefused


def require_valid(lease: DoseLease, newest_token: int, monotonic_s: float) -> None:
    """Raise `DoseRefused` for a lease that has expired or carries a token older than the newest seen.

    Parameters
    ----------
    lease : DoseLease
        As it was shown to the gate.
    newest_token : int
        Highest token that this instrument has seen.
    monotonic_s : float
        The real monotonic clock [s].
    """
    late_s = monotonic_s - lease.expires_monotonic_s
    if late_s >= 0:
        raise DoseRefused(f"the dose lease for {lease.area} expired {late_s:.3g} s ago; mint a new one")
    if lease.token < newest_token:
        raise DoseRefused(
            f"the dose lease for {lease.area} carries token {lease.token}, but {newest_token} was seen: "
            "another owner has taken the instrument"
        )
