"""What a measurement of a calibration gives, whether it succeeded or not."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from math import isfinite
from typing import Any, Protocol

from db.vocabulary import USABLE, Verdict


class Fit(Protocol):
    """What every estimator's result has."""

    @property
    def residual(self) -> float: ...
    @property
    def ok(self) -> bool: ...
    @property
    def reason(self) -> str: ...


@dataclass(frozen=True)
class Measured:
    """One kind, measured or not."""

    kind: str
    verdict: Verdict
    value: dict[str, Any] = field(default_factory=dict)
    uncertainty: dict[str, Any] | None = None
    residual: float | None = None
    reason: str = ""
    evidence: tuple[int, ...] = ()
    """Ids of the datasets it was made from."""
    curves: dict[str, Any] | None = None
    """What the report draws beside the evidence: ``x``, ``data``, ``fit``, ``x_label``, ``y_label``, or ``rings``."""
    fit: Any = field(default=None, repr=False, compare=False)
    """The estimator's result, for checks between kinds of one session; never recorded."""

    @property
    def usable(self) -> bool:
        """Whether a run may use it."""
        return self.verdict in USABLE


def of_fit(
    kind: str,
    fit: Fit,
    names: Iterable[str],
    *,
    errors: dict[str, str] | None = None,
    also_uncertain: Mapping[str, Any] | None = None,
    evidence: tuple[int, ...] = (),
    curves: dict[str, Any] | None = None,
    **more: Any,
) -> Measured:
    """The outcome of an estimator: its gate decides between pass and fail.

    Parameters
    ----------
    names : iterable of str
        Attributes of the fit that are the value; NaN becomes None.
    errors : dict
        Attribute with the standard error, by name of the value; without it that of the same name with
        ``_uncertainty`` before the unit or at the end, where the fit has one.
    also_uncertain : mapping
        Standard errors of further values.
    more
        Further values.
    """
    names = tuple(names)
    errors = errors or {}
    found = {name: getattr(fit, errors.get(name) or _error_of(fit, name), None) for name in names}
    return Measured(
        kind=kind,
        verdict="pass" if fit.ok else "fail",
        value={**{name: clean(getattr(fit, name)) for name in names}, **more},
        uncertainty={
            name: clean(error) for name, error in {**found, **(also_uncertain or {})}.items() if error is not None
        }
        or None,
        residual=clean(fit.residual),
        reason=fit.reason,
        evidence=evidence,
        curves=curves,
        fit=fit,
    )


def _error_of(fit: Fit, name: str) -> str:
    """``defocus_nm``: ``defocus_uncertainty_nm``, else ``defocus_nm_uncertainty``."""
    stem, _, unit = name.rpartition("_")
    within = f"{stem}_uncertainty_{unit}"
    return within if hasattr(fit, within) else f"{name}_uncertainty"


def not_measurable(kind: str, reason: str) -> Measured:
    """One that could not be tried."""
    return Measured(kind, "not_measurable", reason=reason)


def clean(value: Any) -> Any:
    """A value as the database takes it: plain numbers and lists, None for what is not known."""
    if hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, list | tuple):
        return [clean(each) for each in value]
    if isinstance(value, float) and not isfinite(value):
        return None
    return value
