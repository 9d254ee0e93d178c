"""The end of a session after an error: every subset of its clean-up steps fails, and the others are still made."""

from itertools import combinations
from pathlib import Path
from typing import Any

import pytest

from devices.lease import is_owned
from devices.simulator import remote
from stem4d.errors import DeviceFault
from tasks.lab import Lab, Told
from tests.devices.server_world import folder_of
from tests.flows.night_world import NAME, small_lab

STEPS = {
    "blank": (remote.RemoteGate, "blank"),
    "scan": (remote.RemoteScan, "ensure_stopped"),
    "detector": (remote.RemoteDetector, "ensure_stopped"),
    "record": (Lab, "_record"),
    "close": (remote.RemoteInstrument, "close"),
}
FEW = (0, 1, len(STEPS))
"""How many fail in what is tried each time; every other number with the slow tests."""
SUBSETS = [
    failing if many in FEW else pytest.param(failing, marks=pytest.mark.slow)
    for many in range(len(STEPS) + 1)
    for failing in combinations(STEPS, many)
]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One home, and one server that stays for the next session."""
    return tmp_path_factory.mktemp("way-out")


@pytest.mark.parametrize("failing", SUBSETS)
def test_steps_that_fail_keep_no_other_from_being_made(
    home: Path, monkeypatch: pytest.MonkeyPatch, failing: tuple[str, ...]
) -> None:
    tried: set[str] = set()
    lines: list[Told] = []

    def breaks(name: str, function: Any) -> Any:
        def step(*arguments: Any) -> Any:
            tried.add(name)
            done = function(*arguments)
            if name in failing:
                raise DeviceFault(f"{name} failed")
            return done

        return step

    def session() -> None:
        with monkeypatch.context() as patch, small_lab(home) as opened:
            opened.on_told = lines.append
            for name, (owner, method) in STEPS.items():
                patch.setattr(owner, method, breaks(name, getattr(owner, method)))
            raise DeviceFault("the first error")

    with pytest.raises(DeviceFault) as caught:
        session()
    assert str(caught.value).startswith("the first error")
    assert {"blank", "scan", "detector", "close"} <= tried
    parking = {name for name in failing if name in ("blank", "scan", "detector")}
    assert all(f"{name} failed" in str(caught.value) for name in parking)
    assert any("close failed" in one.message for one in lines) is ("close" in failing)
    assert not is_owned(folder_of(home, NAME))
