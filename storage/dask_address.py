"""Which Dask clusters are trusted: those on loopback, and those behind TLS."""

from ipaddress import ip_address
from urllib.parse import urlsplit

SAFE = "has to be tls://HOST:PORT, or tcp:// with a port on this machine's loopback (127.0.0.1)"
REMEDY = "Start scheduler and workers with TLS certificates: whoever reaches them otherwise runs programs there"


def is_trusted(address: str) -> bool:
    """Whether nobody but those we mean can give programs to what answers there: Dask runs the pickles it gets."""
    try:
        parts = urlsplit(address)
        host, port = parts.hostname, parts.port
    except ValueError:
        return False
    # Nothing but a host and a port, so that Dask cannot read another host in it than we do.
    if not host or not port or address != f"{parts.scheme}://{parts.netloc}" or "@" in parts.netloc:
        return False
    return parts.scheme == "tls" or (parts.scheme == "tcp" and _is_loopback(host))


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
