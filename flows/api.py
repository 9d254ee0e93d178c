"""Prefect's own API server as our child process: on loopback, behind a password, gone when its parent is gone."""

import json
import os
import secrets
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator, Mapping
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from urllib.parse import urlsplit

from stem4d.errors import BadInput, NightbeamError
from storage.disk import ordinary_bytes

READY_WITHIN_S = 90.0  # 5 s as a rule, 14 s the first time (the schema), and slow disks were seen to take 75 s
STOP_WITHIN_S = 10.0
LOG_CAP_BYTES = 5_000_000
LARGEST_NOTE = 4096

SERVER_SETTINGS = {
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "DO_NOT_TRACK": "1",
    "PREFECT_SERVER_UI_ENABLED": "false",  # it copies itself into site-packages first; ours is the web view
    "PREFECT_SERVER_REGISTER_BLOCKS_ON_START": "false",  # 1.6 s of a first start; a block registers itself when saved
    "PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE": "prefect.server.concurrency.lease_storage.filesystem",
    "PREFECT_SERVER_SERVICES_FOREMAN_ENABLED": "false",  # looks after work pools, which a child server has none of
    # One by one, the default, it falls behind a quick flow, and forgets what is queued when it is stopped.
    "PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_BATCH_SIZE": "100",
    "PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_FLUSH_INTERVAL": "1",
    "PREFECT_SERVER_SERVICES_DB_VACUUM_ENABLED": "events,flow_runs",  # a night leaves some 40 MB; our record is ours
}
LASTING_SETTINGS = SERVER_SETTINGS | {
    "PREFECT_SERVER_UI_ENABLED": "true",
    "PREFECT_SERVER_UI_SHOW_PROMOTIONAL_CONTENT": "false",
    "PREFECT_SERVER_SERVICES_FOREMAN_ENABLED": "true",  # says of a work pool whether a worker polls it
}
"""Of the server of `nightbeam serve`, which people look at and workers poll."""
CLIENT_SETTINGS = {
    "DO_NOT_TRACK": "1",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_SERVER_ALLOW_EPHEMERAL_MODE": "false",  # without ours: an error, not another server with no password
    "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": "60",
    "PREFECT_RESULTS_DEFAULT_SERIALIZER": "json",
    "PREFECT_LOGGING_LEVEL": "WARNING",
    "PREFECT_LOGGING_TO_API_WHEN_MISSING_FLOW": "ignore",
    "PREFECT_CLIENT_MAX_RETRIES": "4",  # waits of 2, 4, 8 and 16 s: an API that is gone is given up after 30 s
    "PREFECT_CLIENT_SERVER_VERSION_CHECK_ENABLED": "false",  # both ends are one installation
}


class ApiUnavailable(NightbeamError):
    """Prefect's API server did not come up."""


@dataclass(frozen=True)
class PrefectApi:
    """Where the server answers, and the ``user:password`` that it asks for."""

    url: str
    auth: str = field(repr=False)
    folder: Path = Path("~/.prefect")
    """Where its client keeps what it keeps."""
    lasting: bool = False
    """Whether it is that of `nightbeam serve`, which does not end with a command."""


class ApiServer:
    """A server that was started and may still be on its way; ``ready()`` waits for it, ``stop()`` is idempotent.

    A ``lasting`` one is for others, too: its port and password stay, and it has Prefect's pages.
    """

    def __init__(self, home: Path, *, lasting: bool = False, port: int = 0) -> None:
        home = home.resolve()  # the child works in a folder of its own
        self._lasting = lasting
        self.folder = home / "prefect"
        self.log = home / "logs" / "prefect-api.log"
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.log.parent.mkdir(parents=True, exist_ok=True)
        self._note = self.folder / "api.json"
        self._password = _kept_password(self.folder) if lasting else secrets.token_urlsafe(32)
        self._begin(port)

    def _begin(self, port: int) -> None:
        self._log_start = prepare_log(self.log)
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as door:  # the child inherits it: no race for the port
            door.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                door.bind(("127.0.0.1", port))
            except OSError as error:
                limit = f"cannot be listened on: {error.strerror}"
                raise BadInput(field="--prefect-port", value=port, limit=limit, remedy="Name another") from None
            origin = f"http://127.0.0.1:{door.getsockname()[1]}"
            self.api = PrefectApi(f"{origin}/api", f"nightbeam:{self._password}", self.folder, self._lasting)
            self._process = self._spawn(door.fileno(), origin)
        note = {"url": self.api.url, "auth": self.api.auth, "pid": self._process.pid, "lasting": self._lasting}
        _write_private(self._note, note)

    def _spawn(self, door: int, origin: str) -> subprocess.Popen[bytes]:
        own = {
            "PREFECT_HOME": str(self.folder),
            "PREFECT_SERVER_API_AUTH_STRING": self.api.auth,
            "PREFECT_SERVER_CORS_ALLOWED_ORIGINS": origin,
            "PREFECT_SERVER_UI_STATIC_DIRECTORY": str(self.folder / "ui"),
            "PREFECT_SERVER_UI_API_URL": f"{origin}/api",
        }
        settings = LASTING_SETTINGS if self._lasting else SERVER_SETTINGS
        # By path and with -P: a folder called flows, where the user happens to be, is not mistaken for ours.
        child = Path(__file__).with_name("api_child.py").resolve()
        command = [sys.executable, "-P", str(child), str(door), str(os.getpid())]
        spawned: Future[subprocess.Popen[bytes]] = Future()

        def keep() -> None:
            # The kernel kills the child when the *thread* that started it ends, so this one stays as long as the child.
            try:
                with self.log.open("ab") as log:
                    process = subprocess.Popen(  # noqa: S603
                        command,
                        env=_without_prefect(os.environ) | settings | own,
                        cwd=self.folder,
                        stdin=subprocess.DEVNULL,
                        stdout=log,
                        stderr=log,
                        pass_fds=[door],
                        start_new_session=True,  # Ctrl+C at the terminal is the parent's business
                    )
            except BaseException as error:  # noqa: BLE001 (raised again in the thread that asked)
                spawned.set_exception(error)
                return
            spawned.set_result(process)
            process.wait()

        threading.Thread(target=keep, name="prefect-api-keeper", daemon=True).start()
        return spawned.result()

    def revive(self) -> bool:
        """Start the server again, at the address that its clients know, if it has ended; gives whether it had."""
        if self._process.poll() is None:
            return False
        self._begin(urlsplit(self.api.url).port or 0)
        return True

    @property
    def pid(self) -> int:
        """The server's process."""
        return self._process.pid

    def ready(self, within_s: float = READY_WITHIN_S) -> PrefectApi:
        """Wait until the server answers.

        Raises
        ------
        ApiUnavailable
            If it ended, or did not answer in time; with the last lines of its log.
        """
        deadline = time.monotonic() + within_s
        while not answers(self.api.url):
            code = self._process.poll()
            if code is not None:
                raise ApiUnavailable(f"Prefect's API server ended with code {code}; {self._last_words()}")
            if time.monotonic() > deadline:
                raise ApiUnavailable(f"Prefect's API server did not answer in {within_s:g} s; {self._last_words()}")
            time.sleep(0.05)
        return self.api

    def stop(self) -> None:
        """End the server, with the time to finish what it is writing."""
        self._process.terminate()
        try:
            self._process.wait(STOP_WITHIN_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        with suppress(FileNotFoundError):  # a later server on the same home may have left its own note
            if json.loads(self._note.read_text())["pid"] == self.pid:
                self._note.unlink()

    def _last_words(self, lines: int = 15) -> str:
        with self.log.open("rb") as log:
            log.seek(self._log_start)
            tail = log.read().decode(errors="replace").splitlines()[-lines:]
        return f"its log {self.log} ends with\n" + "\n".join(tail) if tail else f"its log {self.log} says nothing"

    def __enter__(self) -> "ApiServer":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def start(home: Path, *, lasting: bool = False, port: int = 0) -> ApiServer:
    """Start a server and return at once: import, plan and compile while it comes up, then call ``ready()``."""
    return ApiServer(home, lasting=lasting, port=port)


def noted_api(home: Path) -> PrefectApi | None:
    """The server that a process of this home has running, `nightbeam serve` or a command; None where none answers."""
    folder = home.resolve() / "prefect"
    try:
        note = json.loads(ordinary_bytes(folder / "api.json", LARGEST_NOTE))
        found = PrefectApi(str(note["url"]), str(note["auth"]), folder, lasting=note.get("lasting") is True)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    return found if answers(found.url) else None


def named_api() -> PrefectApi:
    """The server that the environment names, as a facility has one.

    Raises
    ------
    BadInput
        Where it names none.
    """
    url = os.environ.get("PREFECT_API_URL", "").rstrip("/")
    if not url:
        limit = "has to name the server where the setting prefect_api is named"
        raise BadInput(field="PREFECT_API_URL", value="nothing", limit=limit, remedy="export PREFECT_API_URL=...")
    folder = Path(os.environ.get("PREFECT_HOME", "~/.prefect")).expanduser()
    return PrefectApi(url, os.environ.get("PREFECT_API_AUTH_STRING", ""), folder)


@contextmanager
def serving(home: Path) -> Iterator[PrefectApi]:
    """A server for the length of a ``with`` block, and this process its client.

    Import Prefect (or ``flows.night``) inside the block, not before: cheaper, because the server starts meanwhile.
    """
    with start(home) as server, client_of(server):
        yield server.ready()


@contextmanager
def client_of(server: ApiServer | PrefectApi) -> Iterator[None]:
    """Make this process a client of a server, and of nothing else that the user's environment names.

    Prefect reads its settings when it is imported. If it is already here, it is made to read them again:
    ``temporary_settings`` would reach this thread only.
    """
    api = server.api if isinstance(server, ApiServer) else server
    own = {"PREFECT_HOME": str(api.folder), "PREFECT_API_URL": api.url, "PREFECT_API_AUTH_STRING": api.auth}
    kept = {key: os.environ[key] for key in ("PREFECT_LOGGING_LEVEL",) if key in os.environ}
    before = dict(os.environ)
    _set_environment(_without_prefect(before) | CLIENT_SETTINGS | kept | own)
    try:
        yield
    finally:
        _send_what_is_queued()
        _set_environment(before)


def _set_environment(wanted: Mapping[str, str]) -> None:
    for key in os.environ.keys() - wanted.keys():
        del os.environ[key]
    os.environ.update(wanted)
    if context := sys.modules.get("prefect.context"):
        context.refresh_global_settings_context()


def _send_what_is_queued() -> None:
    """Let Prefect's threads hand over their last events and log lines while there is somebody to take them."""
    if events := sys.modules.get("prefect.events.worker"):
        events.EventsWorker.drain_all(timeout=STOP_WITHIN_S)
    if logs := sys.modules.get("prefect.logging.handlers"):
        logs.APILogWorker.drain_all(timeout=STOP_WITHIN_S)


def _without_prefect(environment: Mapping[str, str]) -> dict[str, str]:
    return {key: value for key, value in environment.items() if not key.startswith("PREFECT_")}


def answers(url: str) -> bool:
    """Whether a Prefect API answers at an address."""
    try:
        with urllib.request.urlopen(f"{url}/health", timeout=5) as answer:  # noqa: S310 (our own loopback address)
            return bool(answer.status == 200)
    except OSError:
        return False


def prepare_log(path: Path) -> int:
    """Put an overgrown log aside, make sure that only its owner reads the new one, and say where it will go on."""
    if path.exists() and path.stat().st_size > LOG_CAP_BYTES:
        path.replace(path.with_suffix(".log.1"))
    path.touch(mode=0o600)
    return path.stat().st_size


def _kept_password(folder: Path) -> str:
    """The password of before, or a new one: a browser that knows it is not asked again after every start."""
    kept = folder / "password.json"
    with suppress(OSError, ValueError, KeyError, TypeError):
        return str(json.loads(kept.read_text())["password"])
    password = secrets.token_urlsafe(32)
    _write_private(kept, {"password": password})
    return password


def _write_private(path: Path, content: dict[str, object]) -> None:
    draft = path.with_name(f"{path.name}.{os.getpid()}")
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        json.dump(content, file)
    draft.replace(path)
