"""Which clusters are trusted: loopback, or TLS."""

import pytest

from stem4d.errors import BadInput
from tasks.spread import require_safe


@pytest.mark.parametrize(
    "address", ["tcp://127.0.0.1:8786", "tcp://localhost:8786", "tcp://[::1]:8786", "tls://dask.example.org:8786"]
)
def test_loopback_and_tls_are_trusted(address: str) -> None:
    require_safe(address)


@pytest.mark.parametrize(
    "address",
    ["tcp://10.0.0.1:8786", "tcp://dask.example.org:8786", "tcp://127.0.0.1.example.org:1", "8786", "ws://127.0.0.1:1",
     "tcp://0.0.0.0:8786", "tls://", "inproc://x", "tcp://localhost.example.org:1", "dask.example.org:8786"],
)  # fmt: skip
def test_anything_else_is_refused_with_what_to_do(address: str) -> None:
    with pytest.raises(BadInput) as told:
        require_safe(address)
    assert "TLS" in str(told.value)
