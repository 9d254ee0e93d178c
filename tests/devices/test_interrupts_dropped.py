"""A signal whose exception Python drops is raised again at the next look."""

import gc
import weakref

import pytest

from devices import interrupts


class Ended(BaseException):
    """Stands for SIGTERM."""


@pytest.fixture
def fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(interrupts, "_arrivals", interrupts._Arrivals())


class Thing:
    """Something that a weak reference can be made of."""


@pytest.mark.usefixtures("fresh")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_what_a_callback_of_a_weak_reference_drops_is_raised_again() -> None:
    thing = Thing()
    _kept = weakref.ref(thing, lambda _gone: interrupts.arrived(Ended()))
    del thing
    gc.collect()
    with pytest.raises(Ended):
        interrupts.raise_dropped()


@pytest.mark.usefixtures("fresh")
def test_without_a_signal_nothing_is_raised() -> None:
    interrupts.raise_dropped()
