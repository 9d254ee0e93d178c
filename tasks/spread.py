"""Has the row ranges of an analysis done on a Dask cluster: plain calls by path, from the package installed there."""

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from ipaddress import ip_address
from typing import Any
from urllib.parse import urlsplit

from stem4d.analyse.method import Parts
from stem4d.errors import BadInput, NightbeamError
from storage.settings import Settings
from tasks.parts import Everywhere, Job, Ranges, part_of

INSTALL = "pip install 'nightbeam[dask]'"
TRIES = 4
"""How often a range may be begun: a worker that dies takes those with it that it had."""
CONNECT_S = 20.0


@contextmanager
def cluster_of(settings: Settings) -> Iterator[Everywhere | None]:
    """Ranges done by the cluster that the setting ``dask_address`` names; None where none is named: they are done here.

    Raises
    ------
    BadInput
        The address is not on loopback and not ``tls://``, or Dask is not installed.
    NightbeamError
        No scheduler answers there.
    """
    if settings.dask_address is None:
        yield None
        return
    require_safe(settings.dask_address)
    if find_spec("distributed") is None:
        raise BadInput(
            field="dask_address", value=settings.dask_address, limit="Dask is not installed here", remedy=INSTALL
        )
    # Half a second to load, and no part of a night without a cluster.
    from distributed import Client
    from distributed.security import Security

    tls = settings.dask_address.startswith("tls:")
    security = Security(
        tls_ca_file=settings.dask_tls_ca,
        tls_client_cert=settings.dask_tls_cert,
        tls_client_key=settings.dask_tls_key,
        require_encryption=True,
    )
    try:
        client = Client(
            settings.dask_address, security=security if tls else None, timeout=CONNECT_S, set_as_default=False
        )
    except (OSError, TimeoutError, ValueError) as error:
        raise NightbeamError(f"no Dask scheduler answers at {settings.dask_address}: {error}") from None
    with client:
        yield lambda job, prepared, ranges: _spread(client, job, prepared, ranges)


def require_safe(address: str) -> None:
    """Refuse an address whose workers anybody on the network may give programs to: Dask runs the pickles it gets."""
    parts = urlsplit(address)
    if parts.scheme == "tls" and parts.hostname:
        return
    if parts.scheme == "tcp" and parts.hostname and _is_loopback(parts.hostname):
        return
    raise BadInput(
        field="dask_address",
        value=address,
        limit="has to be tls://HOST:PORT, or tcp:// on this machine's loopback (127.0.0.1)",
        remedy="Start scheduler and workers with TLS certificates: whoever reaches them otherwise runs programs there",
    )


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _spread(client: Any, job: Job, prepared: Parts, ranges: Ranges) -> list[Parts]:
    from distributed.comm import CommClosedError
    from distributed.scheduler import KilledWorker

    try:
        # A task, and not scattered data: what a worker takes with it when it dies is then made again.
        shared = client.submit(dict, dict(prepared), pure=False, retries=TRIES - 1)
        futures = [
            client.submit(part_of, job, shared, first, stop, pure=False, retries=TRIES - 1) for first, stop in ranges
        ]
        return list(client.gather(futures))
    except (CommClosedError, KilledWorker) as error:
        raise NightbeamError(f"the Dask cluster lost the analysis: {error}") from None
