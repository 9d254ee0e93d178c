"""A real Dask cluster on loopback: the same result as here, whatever dies of it; and clear words where none comes."""

import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import h5py
import numpy as np
import pytest

from benchmarks.strain_set import RADIUS_PX, strain_set
from stem4d.analyse.method import Outcome
from stem4d.analyse.methods import METHODS
from stem4d.plan import Strain
from storage.settings import Settings
from tasks import analyse, parts
from tasks.cluster import ClusterFailed, connected
from tasks.parts import Job, analysed
from tasks.spread import cluster_of, spread
from tests.dask_cluster import Certificates, Cluster, Deadly, Options, cluster, free_port
from tests.tasks.test_results import GIVEN

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]
SCAN, DETECTOR = (24, 64), (64, 64)
ROW_BYTES = SCAN[1] * DETECTOR[0] * DETECTOR[1] * 2


@pytest.fixture
def job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Job:
    rng = np.random.default_rng(1)
    y, x = np.indices(DETECTOR) - 31.5
    disk = 20.0 * (np.hypot(y, x) < 12)
    path = tmp_path / "scan.h5"
    with h5py.File(path, "w") as file:
        file["data"] = rng.poisson(disk, (*SCAN, *DETECTOR)).astype(np.uint16)
    monkeypatch.setattr(parts, "RANGE_BYTES", 2 * ROW_BYTES)
    given = GIVEN.__class__(200.0, 12.0, 1.0, (0.5, 0.5), np.array([31.5, 31.5]), np.zeros(DETECTOR, np.bool_))
    return Job(str(path), "com", given, METHODS["com"].options())


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """A cluster is given up soon."""
    for name, seconds in (("CONNECT_S", 5.0), ("ANSWER_S", 10.0), ("CLOSE_S", 2.0), ("IDLE_S", 20.0)):
        monkeypatch.setattr(f"tasks.cluster.{name}", seconds)
    monkeypatch.setattr("tasks.spread.LOOK_S", 0.5)


def same(one: Outcome, other: Outcome) -> None:
    assert one.figures == other.figures
    for a, b in zip(one.pictures, other.pictures, strict=True):
        np.testing.assert_array_equal(a.values, b.values)


def on(there: Cluster, folder: Path, **tls: str) -> Any:
    return cluster_of(Settings(home=folder, dask_address=there.address, **tls))


def in_the_middle(there: Cluster, folder: Path, do: Callable[[], None]) -> Any:
    """Has ranges done there, and does something once the first of them came back."""
    settings = Settings(home=folder, dask_address=there.address)

    def everywhere(job: Job, prepared: Any, ranges: Any) -> Any:
        with connected(settings) as client:
            begun: list[None] = []

            def on_done() -> None:
                if not begun:
                    begun.append(do())

            return spread(client, there.address, job, prepared, ranges, on_done)

    return everywhere


def test_a_cluster_comes_to_the_same_though_a_worker_dies(job: Job, tmp_path: Path) -> None:
    here = analysed(job)
    with cluster(tmp_path) as there:
        same(analysed(job, on(there, tmp_path)), here)
        victim = there.processes[-1]
        # A stopped worker holds the ranges it was given when it dies.
        victim.send_signal(signal.SIGSTOP)
        killer = threading.Thread(target=lambda: (time.sleep(2), victim.send_signal(signal.SIGKILL)))
        killer.start()
        try:
            same(analysed(job, on(there, tmp_path)), here)
        finally:
            killer.join()


def test_a_file_may_be_named_from_where_the_person_stands(
    job: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = analysed(job)
    with cluster(tmp_path, 1) as there:
        monkeypatch.chdir(tmp_path)
        same(analysed(replace(job, path="scan.h5"), on(there, tmp_path)), here)


def test_no_scheduler_is_said(job: Job, tmp_path: Path, quick: None) -> None:
    settings = Settings(home=tmp_path, dask_address=f"tcp://127.0.0.1:{free_port()}")
    with pytest.raises(ClusterFailed, match="no Dask scheduler answers"):
        analysed(job, cluster_of(settings))


@pytest.mark.parametrize(
    ("how", "words"), [(signal.SIGKILL, "lost|went away"), (signal.SIGSTOP, "has not answered for 10 s")]
)
def test_a_scheduler_that_dies_or_hangs_in_the_middle_is_said(
    how: signal.Signals, words: str, job: Job, tmp_path: Path, quick: None, capfd: pytest.CaptureFixture[str]
) -> None:
    with cluster(tmp_path) as there:
        began = time.monotonic()
        with pytest.raises(ClusterFailed, match=words):
            analysed(job, in_the_middle(there, tmp_path, lambda: there.processes[0].send_signal(how)))
        # Limits of some seconds each for an answer, for looking, for closing and for loading of the workers.
        assert time.monotonic() - began < 60
    assert "Traceback" not in capfd.readouterr().err


def test_a_scheduler_that_hangs_from_the_beginning_is_said(job: Job, tmp_path: Path, quick: None) -> None:
    with cluster(tmp_path, 0) as there:
        with pytest.raises(ClusterFailed, match="has no worker"):
            analysed(job, on(there, tmp_path))
        there.processes[0].send_signal(signal.SIGSTOP)
        with pytest.raises(ClusterFailed, match="no Dask scheduler answers"):
            analysed(job, on(there, tmp_path))


def test_when_all_workers_died_it_is_said(job: Job, tmp_path: Path, quick: None) -> None:
    with cluster(tmp_path) as there:

        def kill() -> None:
            for worker in there.processes[1:]:
                worker.send_signal(signal.SIGKILL)

        with pytest.raises(ClusterFailed, match="has no worker"):
            analysed(job, in_the_middle(there, tmp_path, kill))


def test_a_range_of_which_every_worker_dies_is_given_up(job: Job, tmp_path: Path) -> None:
    options = Options(nanny=True, worker_environment={"NIGHTBEAM_CRASH_HERE": "1"})
    with cluster(tmp_path, options=options) as there:
        deadly = replace(job, options=Deadly())
        with (
            connected(Settings(home=tmp_path, dask_address=there.address)) as client,
            pytest.raises(ClusterFailed, match="4 workers of the Dask cluster died of the same range"),
        ):
            spread(client, there.address, deadly, {}, [(0, 2)])


def test_workers_without_the_memory_to_begin_are_said(job: Job, tmp_path: Path, quick: None) -> None:
    words = r"1 of its 1 workers are paused.*\(0\.1 GB\).*--memory-limit"
    with cluster(tmp_path, 1, Options(memory="150MB")) as there, pytest.raises(ClusterFailed, match=words):
        analysed(job, on(there, tmp_path))


def test_a_worker_with_another_nightbeam_is_said(job: Job, tmp_path: Path, quick: None) -> None:
    facts = tmp_path / "older" / "nightbeam-0.0.1.dist-info"
    facts.mkdir(parents=True)
    (facts / "METADATA").write_text("Metadata-Version: 2.1\nName: nightbeam\nVersion: 0.0.1\n")
    path = f"{facts.parent}{os.pathsep}{os.getcwd()}"
    words = r"has nightbeam 0\.0\.1, and this analysis is of"
    options = Options(worker_environment={"PYTHONPATH": path})
    with cluster(tmp_path, 1, options) as there, pytest.raises(ClusterFailed, match=words):
        analysed(job, on(there, tmp_path))


@pytest.mark.parametrize(
    ("of", "words"),
    [
        ("worker", "no worker .one without nightbeam ends"),
        ("scheduler", "cannot load the analysis .*Install nightbeam"),
    ],
)
def test_a_worker_or_scheduler_without_nightbeam_is_said(
    of: str, words: str, job: Job, tmp_path: Path, quick: None
) -> None:
    empty = tmp_path / "empty" / "tasks"
    empty.mkdir(parents=True)
    (empty / "__init__.py").touch()
    without = {"PYTHONPATH": str(empty.parent)}
    options = Options(worker_environment=without) if of == "worker" else Options(scheduler_environment=without)
    with cluster(tmp_path, 1, options) as there, pytest.raises(ClusterFailed, match=words):
        analysed(job, on(there, tmp_path))


def certificates(folder: Path) -> Certificates:
    """As docs/analysis.md makes them."""
    folder.mkdir()
    curve = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2")
    for command in (
        ("req", "-x509", *curve, "-subj", "/CN=dask of a test", "-keyout", "ca.key", "-out", "ca.pem"),
        ("req", *curve, "-subj", "/CN=dask", "-keyout", "dask.key", "-out", "dask.csr"),
        ("x509", "-req", "-in", "dask.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-days", "2",
         "-out", "dask.pem"),
    ):  # fmt: skip
        subprocess.run(["openssl", *command], cwd=folder, check=True, capture_output=True)
    return Certificates(folder / "ca.pem", folder / "dask.pem", folder / "dask.key")


def named(files: Certificates) -> dict[str, str]:
    return {"dask_tls_ca": str(files.ca), "dask_tls_cert": str(files.cert), "dask_tls_key": str(files.key)}


def test_a_cluster_behind_tls_serves_those_of_its_authority(job: Job, tmp_path: Path, quick: None) -> None:
    ours, theirs = certificates(tmp_path / "ours"), certificates(tmp_path / "theirs")
    with cluster(tmp_path, 1, Options(tls=ours, nanny=True)) as there:
        same(analysed(job, on(there, tmp_path, **named(ours))), analysed(job))
        for wrong in (theirs, replace(theirs, ca=ours.ca), replace(ours, ca=theirs.ca)):
            with pytest.raises(ClusterFailed, match=r"no Dask scheduler answers.*our certificate"):
                analysed(job, on(there, tmp_path, **named(wrong)))
        # Nor does it speak to one without any.
        with pytest.raises(ClusterFailed, match="no Dask scheduler answers"):
            analysed(job, cluster_of(Settings(home=tmp_path, dask_address=there.address.replace("tls", "tcp"))))


def test_a_night_whose_cluster_is_away_analyses_by_itself(tmp_path: Path, quick: None) -> None:
    frames = strain_set((8, 8)).frames
    path = tmp_path / "strain.h5"
    with h5py.File(path, "w") as file:
        file["data"] = frames
    middle = (np.array(frames.shape[2:]) - 1) / 2
    given = GIVEN.__class__(200.0, RADIUS_PX, 1.0, (1.0, 1.0), middle, np.zeros(frames.shape[2:], np.bool_))
    warned: list[tuple[str, str]] = []
    settings = Settings(home=tmp_path, dask_address=f"tcp://127.0.0.1:{free_port()}")
    opened: Any = SimpleNamespace(
        settings=settings,
        runs={"r1": SimpleNamespace(plan=None)},
        warn=lambda kind, words, _run: warned.append((kind, words)),
        break_off=lambda: "",
        show=lambda *_: None,
    )
    wanted = Strain(kind="strain", reflection_d_a=2.0, target_strain=0.01, smallest_feature_nm=1.0)
    maps: Any = None
    made = analyse._made(opened, "r1", given, wanted, {"path": str(path), "sha256": "a" * 64}, maps)
    assert [picture.name for picture in made["strain"].outcome.pictures][:3] == ["exx", "eyy", "exy"], made[
        "strain"
    ].outcome.reason
    assert [(kind, "no Dask scheduler" in words) for kind, words in warned] == [("cluster failed", True)]
