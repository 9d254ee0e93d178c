"""A Dask cluster from outside: connected to, looked at, and let go of, none of which may take for ever."""

import logging
import ssl
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path
from time import monotonic
from typing import Any

from stem4d.errors import BadInput, NightbeamError
from storage.dask_address import REMEDY, is_trusted
from storage.settings import Settings
from tasks.within import TooLong, within

INSTALL = "pip install 'nightbeam[dask]'"
CONNECT_S = 20.0
ANSWER_S = 30.0
"""A scheduler with much to do may take seconds to answer; one that is silent for so long is not at work."""
CLOSE_S = 5.0
IDLE_S = 120.0
"""So long may no worker be at work: one that died is started again, and loads numba over a network, within it."""
STALL_S = 30 * 60.0
"""In which a range of rows has to be done: the slowest analyses take minutes, a file system that hangs for ever."""
LEAST_GB = 2


class ClusterFailed(NightbeamError):
    """A cluster that did not do what it was asked for; the same analysis can be made here."""


class ClusterRefused(BadInput, ClusterFailed):
    """What a person has to put right before any cluster can be used."""


@contextmanager
def connected(settings: Settings) -> Iterator[Any]:
    """A client of the cluster that the settings name.

    Raises
    ------
    ClusterRefused
        Dask is not installed, or a certificate cannot be used.
    ClusterFailed
        No scheduler answers there, or it lets in everybody.
    """
    address = str(settings.dask_address)
    if find_spec("distributed") is None:
        raise ClusterRefused(field="dask_address", value=address, limit="Dask is not installed here", remedy=INSTALL)
    # Half a second to load, and no part of a night without a cluster.
    from distributed import Client

    # What matters is told once, by our errors; Dask's log has tracebacks of every connection that ends.
    for name in ("distributed", "distributed.client"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    security = _security(settings)
    try:
        # Dask's own limit fails on a frozen peer.
        client = within(
            CONNECT_S + CLOSE_S,
            "nightbeam-dask-connect",
            lambda: Client(address, security=security, timeout=CONNECT_S, set_as_default=False),
        )
    except (OSError, TimeoutError, TooLong, ValueError) as error:
        also = "" if security is None else ", or none that takes our certificate and has one of the same authority"
        raise ClusterFailed(f"no Dask scheduler answers at {address}{also} ({_short(error)})") from None
    try:
        require_guarded(facts_of(client, address))
        yield client
    finally:
        # One that no longer answers is let go of all the same.
        with suppress(TimeoutError, OSError):
            client.close(timeout=CLOSE_S)


def facts_of(client: Any, address: str) -> Mapping[str, Any]:
    """What the scheduler says of itself and of its workers now.

    Raises
    ------
    ClusterFailed
        It does not answer.
    """
    try:
        facts: Mapping[str, Any] = client.sync(client.scheduler.identity, n_workers=-1, callback_timeout=ANSWER_S)
    except TimeoutError:
        raise ClusterFailed(f"the Dask scheduler at {address} has not answered for {ANSWER_S:g} s") from None
    except (OSError, AttributeError, RuntimeError) as error:
        # A client that gave up has no scheduler, and no loop.
        raise ClusterFailed(f"the Dask scheduler at {address} went away ({_short(error)})") from None
    return facts


def require_guarded(facts: Mapping[str, Any]) -> None:
    """Refuse a cluster of which a part listens to the network without TLS, by whatever way it was reached.

    Raises
    ------
    ClusterFailed
    """
    for address in (facts["address"], *facts["workers"]):
        if not is_trusted(address):
            raise ClusterFailed(f"a part of the Dask cluster listens at {address}, without TLS. {REMEDY}")


class Watch:
    """Says why a cluster does not get on; asked whenever nothing was done for a while."""

    def __init__(self, client: Any, address: str) -> None:
        self._client, self._address = client, address
        self._done_at = self._busy_at = monotonic()

    def done(self) -> None:
        """A range was done."""
        self._done_at = self._busy_at = monotonic()

    def look(self) -> None:
        """Go on waiting, or not.

        Raises
        ------
        ClusterFailed
        """
        facts = facts_of(self._client, self._address)
        require_guarded(facts)
        workers = facts["workers"].values()
        now = monotonic()
        if any(worker["metrics"].get("task_counts", {}).get("executing") for worker in workers):
            self._busy_at = now
        if now - self._busy_at > IDLE_S:
            raise ClusterFailed(f"nothing was done on the Dask cluster for {IDLE_S:g} s: {_why(list(workers))}")
        if now - self._done_at > STALL_S:
            raise ClusterFailed(f"no worker of the Dask cluster finished a range of rows in {STALL_S / 60:g} min")


def _why(workers: list[Mapping[str, Any]]) -> str:
    if not workers:
        return (
            "it has no worker (one without nightbeam ends as soon as it is given something to do). Look into the"
            " workers' logs, and start them again"
        )
    paused = [worker for worker in workers if worker["status"] == "paused"]
    if not paused:
        return f"its {len(workers)} workers do not begin the ranges that they have. Look into the workers' logs"
    least = min(worker["memory_limit"] for worker in paused)
    return (
        f"{len(paused)} of its {len(workers)} workers are paused, since they use most of the memory that they were"
        f" given ({least / 1e9:.1f} GB). Start them with --memory-limit {LEAST_GB}GB or more"
    )


def _security(settings: Settings) -> Any:
    """Our side of TLS; None for a cluster on loopback."""
    from distributed.security import Security

    if not str(settings.dask_address).startswith("tls:"):
        return None
    ca, cert, key = (str(each) for each in (settings.dask_tls_ca, settings.dask_tls_cert, settings.dask_tls_key))
    for name, path in (("dask_tls_ca", ca), ("dask_tls_cert", cert), ("dask_tls_key", key)):
        if not Path(path).is_file():
            raise ClusterRefused(field=name, value=path, limit="there is no such file")
    context = ssl.create_default_context()
    try:
        context.load_verify_locations(ca)
    except OSError as error:
        limit = f"holds no certificate in PEM ({_short(error)})"
        raise ClusterRefused(field="dask_tls_ca", value=ca, limit=limit) from None
    try:
        # A key with a passphrase would be asked for at a terminal where nobody is.
        context.load_cert_chain(cert, key, password="")
    except OSError as error:
        limit = f"is no key in PEM of dask_tls_cert, without a passphrase ({_short(error)})"
        raise ClusterRefused(field="dask_tls_key", value=key, limit=limit) from None
    return Security(tls_ca_file=ca, tls_client_cert=cert, tls_client_key=key, require_encryption=True)


def _short(error: BaseException) -> str:
    return str(error).partition("\n")[0][:200] or type(error).__name__
