"""Which clusters are trusted, which workers are fit, and what is said of a cluster that does not get on."""

import pickle
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from stem4d.errors import BadInput
from storage.dask_address import is_trusted
from storage.mark import BLOCK_BYTES, BLOCKS, mark_of
from storage.settings import Settings, load_settings
from tasks import cluster
from tasks.cluster import ClusterFailed, Watch, connected, require_guarded
from tasks.parts import Job
from tasks.spread import cluster_of
from tasks.there import Asked, Unfit, installed, part_there
from tests.tasks.test_results import GIVEN, Options


@pytest.mark.parametrize(
    "address", ["tcp://127.0.0.1:8786", "tcp://localhost:8786", "tcp://[::1]:8786", "tls://dask.example.org:8786"]
)
def test_loopback_and_tls_are_trusted(address: str) -> None:
    assert is_trusted(address)


@pytest.mark.parametrize(
    "address",
    ["tcp://10.0.0.1:8786", "tcp://dask.example.org:8786", "tcp://127.0.0.1.example.org:1", "8786", "ws://127.0.0.1:1",
     "tcp://0.0.0.0:8786", "tls://", "inproc://x", "tcp://localhost.example.org:1", "dask.example.org:8786",
     "tcp://127.0.0.1", "tcp://127.0.0.1:many", "tcp://[::1", "tcp://dask.example.org:1@127.0.0.1:8786",
     "tcp://127.0.0.1:8786/", "tcp://127.0.0.1:8786?dask.example.org", "TCP://127.0.0.1:8786\n", "tls://a@b:1",
     "tcp://127.0.0.1:8786,tcp://dask.example.org:8786"],
)  # fmt: skip
def test_anything_else_is_refused_by_every_command_with_what_to_do(
    address: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("NIGHTBEAM_HOME", str(tmp_path))
    monkeypatch.setenv("NIGHTBEAM_DASK_ADDRESS", address)
    with pytest.raises(BadInput, match=r"dask_address.*TLS"):
        load_settings()


@pytest.mark.parametrize("absent", ["ca", "cert", "key"])
def test_tls_without_all_its_files_is_refused(absent: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("NIGHTBEAM_HOME", str(tmp_path))
    monkeypatch.setenv("NIGHTBEAM_DASK_ADDRESS", "tls://dask.example.org:8786")
    for name in {"ca", "cert", "key"} - {absent}:
        monkeypatch.setenv(f"NIGHTBEAM_DASK_TLS_{name.upper()}", f"{name}.pem")
    with pytest.raises(BadInput, match=f"dask_tls_{absent}: .*is required"):
        load_settings()


DAY = timedelta(days=1)


def certificate(cert: Path, key: Path, passphrase: bytes) -> None:
    """One that is its own authority, and its key, which a passphrase locks."""
    private, name = ec.generate_private_key(ec.SECP256R1()), x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "x")])
    now = datetime.now(UTC)
    made = x509.CertificateBuilder(name, name, private.public_key(), x509.random_serial_number(), now, now + DAY)
    cert.write_bytes(made.sign(private, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))
    locked = serialization.BestAvailableEncryption(passphrase)
    pem, form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    key.write_bytes(private.private_bytes(pem, form, locked))


def test_certificates_that_cannot_be_used_are_refused_by_name(tmp_path: Path) -> None:
    other = tmp_path / "other.pem"
    other.write_text("no certificate\n")
    certificate(tmp_path / "good.pem", tmp_path / "locked.key", b"secret")
    good, locked = str(tmp_path / "good.pem"), str(tmp_path / "locked.key")
    for ca, cert, key, field, words in (
        (str(tmp_path / "absent"), good, locked, "dask_tls_ca", "no such file"),
        (str(other), good, locked, "dask_tls_ca", "no certificate"),
        (good, str(other), locked, "dask_tls_key", "no key"),
        # It would be asked for at a terminal.
        (good, good, locked, "dask_tls_key", "passphrase"),
    ):
        settings = Settings(
            home=tmp_path, dask_address="tls://127.0.0.1:1", dask_tls_ca=ca, dask_tls_cert=cert, dask_tls_key=key
        )
        with pytest.raises(BadInput, match=words) as told, connected(settings):
            pass
        assert told.value.field == field
        # In a night it is a cluster that failed, and the analysis is made there.
        assert isinstance(told.value, ClusterFailed)


@pytest.mark.parametrize("of", ["scheduler", "worker"])
def test_a_cluster_that_listens_to_the_network_is_refused_though_reached_by_loopback(of: str) -> None:
    inside, outside = "tcp://127.0.0.1:8786", "tcp://10.1.2.3:4567"
    require_guarded({"address": inside, "workers": {inside: {}, "tls://10.1.2.3:4567": {}}})
    facts = {"address": outside, "workers": {}} if of == "scheduler" else {"address": inside, "workers": {outside: {}}}
    with pytest.raises(ClusterFailed, match=r"10\.1\.2\.3:4567, without TLS"):
        require_guarded(facts)


def test_no_address_is_no_cluster(tmp_path: Path) -> None:
    assert cluster_of(Settings(home=tmp_path)) is None


@pytest.fixture
def asked(tmp_path: Path) -> Asked:
    path = tmp_path / "scan.raw"
    path.write_bytes(b"frames" * 1000)
    return Asked(installed(), mark_of(path), Job(str(path), "total", GIVEN, Options()), {})


def test_a_worker_of_another_version_says_so(asked: Asked) -> None:
    answer = part_there(replace(asked, installed="99.1"), 0, 1)
    assert isinstance(answer, Unfit)
    assert f"has nightbeam {installed()}, and this analysis is of 99.1" in answer.words


def test_a_worker_that_does_not_see_the_file_says_so(asked: Asked) -> None:
    Path(asked.job.path).unlink()
    answer = part_there(asked, 0, 1)
    assert isinstance(answer, Unfit)
    assert f"cannot read {asked.job.path} (No such file" in answer.words


def test_a_worker_with_another_file_of_that_name_says_so(asked: Asked) -> None:
    Path(asked.job.path).write_bytes(b"Frames" * 1000)
    answer = part_there(asked, 0, 1)
    assert isinstance(answer, Unfit)
    assert "has another file" in answer.words


def test_a_mistake_of_the_users_is_an_answer_and_not_tried_again(asked: Asked) -> None:
    answer = part_there(asked, 0, 1)
    assert isinstance(answer, BadInput)
    assert isinstance(pickle.loads(pickle.dumps(answer)), BadInput)


@pytest.mark.parametrize("size", [0, 1, BLOCK_BYTES, BLOCK_BYTES * BLOCKS * 3 + 5])
def test_a_mark_tells_sizes_beginnings_middles_and_ends_apart(size: int, tmp_path: Path) -> None:
    path = tmp_path / "a"
    marks = set()
    for at in {-1, 0, size // 2, size - 1}:
        content = bytearray(size)
        if 0 <= at < size:
            content[at] = 1
        path.write_bytes(content)
        marks.add(mark_of(path))
    path.write_bytes(bytes(size + 1))
    assert mark_of(path) not in marks
    # Nothing changed, and a byte at each of the places.
    assert len(marks) == len({-1, *(at for at in (0, size // 2, size - 1) if 0 <= at < size)})


class Told:
    """A client whose scheduler says what it is told to."""

    scheduler = type("Scheduler", (), {"identity": None})()

    def __init__(self, **workers: dict[str, Any]) -> None:
        self.facts = {"address": "tcp://127.0.0.1:1", "workers": {}}
        self.facts["workers"] = {f"tcp://127.0.0.1:{9 + n}": one for n, one in enumerate(workers.values())}

    def sync(self, *_: object, **__: object) -> dict[str, Any]:
        return self.facts


def worker(status: str = "running", executing: int = 0) -> dict[str, Any]:
    return {"status": status, "memory_limit": 500e6, "metrics": {"task_counts": {"executing": executing}}}


@pytest.mark.parametrize(
    ("client", "words"),
    [
        (Told(), "has no worker"),
        (Told(a=worker("paused"), b=worker("paused")), r"2 of its 2 workers are paused.*0\.5 GB.*--memory-limit 2GB"),
        (Told(a=worker(), b=worker("paused")), "1 of its 2 workers are paused"),
        (Told(a=worker()), "do not begin"),
    ],
)
def test_a_cluster_on_which_nothing_is_done_is_given_up_with_the_reason(
    client: Told, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [0.0]
    monkeypatch.setattr(cluster, "monotonic", lambda: now[0])
    watch = Watch(client, "tcp://127.0.0.1:1")
    now[0] = cluster.IDLE_S
    watch.look()
    now[0] += 1.0
    with pytest.raises(ClusterFailed, match=words):
        watch.look()


def test_workers_at_work_have_half_an_hour_for_a_range(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(cluster, "monotonic", lambda: now[0])
    watch = Watch(Told(a=worker(executing=1)), "tcp://127.0.0.1:1")
    for now[0] in (100.0, cluster.STALL_S):
        watch.look()
    watch.done()
    now[0] += cluster.STALL_S
    watch.look()
    now[0] += 1.0
    with pytest.raises(ClusterFailed, match="finished a range of rows in 30 min"):
        watch.look()
