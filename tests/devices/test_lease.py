"""One owner of an instrument; a look at who holds it keeps nobody from becoming that."""

import fcntl
from pathlib import Path

import pytest

from devices import lease
from devices.lease import is_owned, owned
from stem4d.errors import BadInput


def test_a_look_of_the_same_moment_does_not_refuse_an_owner(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "owner.lock").touch()
    with (tmp_path / "owner.lock").open("rb") as look:
        fcntl.flock(look, fcntl.LOCK_SH)
        # The look ends while the new owner waits.
        monkeypatch.setattr(lease.time, "sleep", lambda _seconds: fcntl.flock(look, fcntl.LOCK_UN))
        with owned("stem", tmp_path):
            assert is_owned(tmp_path)
        assert not is_owned(tmp_path)


def test_an_owner_that_stays_is_named_after_a_moment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    waited: list[float] = []
    monkeypatch.setattr(lease.time, "sleep", waited.append)
    with owned("stem", tmp_path), pytest.raises(BadInput, match="held by process"), owned("stem", tmp_path):
        pass
    assert 0 < sum(waited) <= 0.1
