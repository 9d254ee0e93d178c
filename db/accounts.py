"""What areas may still receive, as last heard from the database, less what was booked since: for while it is away."""

from dataclasses import dataclass

from db.dose import ROUNDING, AreaFluence
from db.operations import AreaKey, CloseIntent, OpenIntent
from stem4d.errors import DoseRefused


@dataclass
class _Account:
    budget_e_per_a2: float
    spent_e_per_a2: float


class Accounts:
    """The areas that one session knows of. Nothing is ever given back: what is left is never more than is true."""

    def __init__(self) -> None:
        self._areas: dict[tuple[str, str], _Account] = {}
        self._open: dict[str, tuple[_Account, float]] = {}

    def heard(self, key: AreaKey, account: AreaFluence | None) -> None:
        """Take over what the database says; None where it has never heard of the area, so that nothing was spent."""
        known = self._areas.setdefault((key.sample, key.name), _Account(0.0, 0.0))
        known.budget_e_per_a2 = account.budget_e_per_a2 if account else key.fluence_budget_e_per_a2
        known.spent_e_per_a2 = account.delivered_e_per_a2 + account.reserved_e_per_a2 if account else 0.0

    def left_e_per_a2(self, key: AreaKey) -> float | None:
        """What an area may still receive [e/Å²]; None where nothing is known of it."""
        known = self._areas.get((key.sample, key.name))
        return None if known is None else known.budget_e_per_a2 - known.spent_e_per_a2

    def budget_e_per_a2(self, key: AreaKey) -> float | None:
        """What an area was registered with [e/Å²]; None where nothing is known of it."""
        known = self._areas.get((key.sample, key.name))
        return None if known is None else known.budget_e_per_a2

    def allow(self, one: OpenIntent) -> None:
        """Raise `DoseRefused` where an area cannot surely afford an exposure, as `db.dose.open_intent` does."""
        known = self._areas.get((one.area.sample, one.area.name))
        where = f"area {one.area.name} of sample {one.area.sample}"
        if known is None:
            raise DoseRefused(
                f"{where}: what it has received is not known while the database is away. Bring the database back"
            )
        allowed = known.budget_e_per_a2 * (1 + one.budget_tolerance) * (1 + ROUNDING)
        if known.spent_e_per_a2 + one.fluence_e_per_a2 > allowed:
            raise DoseRefused(
                f"{where}: {one.purpose} needs {one.fluence_e_per_a2:.6g} e/Å², and of its budget of "
                f"{known.budget_e_per_a2:.6g} e/Å² {known.budget_e_per_a2 - known.spent_e_per_a2:.6g} e/Å² are surely "
                "left: the database is away, and counted is what it said last and what was booked since. "
                "Bring it back, lower the dose or choose another area"
            )

    def booked(self, one: OpenIntent) -> None:
        """Count an exposure that may begin."""
        known = self._areas.get((one.area.sample, one.area.name))
        if known is not None and one.token not in self._open:
            known.spent_e_per_a2 += one.fluence_e_per_a2
            self._open[one.token] = known, one.fluence_e_per_a2

    def closed(self, one: CloseIntent) -> None:
        """Count what an exposure delivered beyond what was booked."""
        known, intended = self._open.get(one.token, (None, 0.0))
        if known is not None:
            known.spent_e_per_a2 += max(0.0, one.delivered_e_per_a2 - intended)
