"""A real Dask cluster on loopback: the same result as here, with a worker that dies, and with less memory than data."""

import signal
import time
from pathlib import Path

import h5py
import numpy as np
import pytest

from stem4d.analyse.methods import METHODS
from stem4d.errors import NightbeamError
from storage.settings import Settings
from tasks import parts
from tasks.parts import Job, analysed
from tasks.spread import cluster_of
from tests.dask_cluster import cluster, free_port
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


def same(one: object, other: object) -> None:
    assert one.figures == other.figures  # type: ignore[attr-defined]
    for a, b in zip(one.pictures, other.pictures, strict=True):  # type: ignore[attr-defined]
        np.testing.assert_array_equal(a.values, b.values)


def test_a_cluster_comes_to_the_same_though_a_worker_dies(job: Job, tmp_path: Path) -> None:
    here = analysed(job)
    with cluster(tmp_path) as there, cluster_of(Settings(home=tmp_path, dask_address=there.address)) as everywhere:
        assert everywhere is not None
        same(analysed(job, everywhere), here)

        def with_a_death(job: Job, prepared: object, ranges: object) -> object:
            victim = there.processes[-1]
            # A stopped worker holds the ranges it was given when it dies.
            victim.send_signal(signal.SIGSTOP)
            import threading

            def kill() -> None:
                time.sleep(2)
                victim.send_signal(signal.SIGKILL)

            killer = threading.Thread(target=kill)
            killer.start()
            try:
                return everywhere(job, prepared, ranges)  # type: ignore[arg-type]
            finally:
                killer.join()

        same(analysed(job, with_a_death), here)  # type: ignore[arg-type]


def test_no_scheduler_is_said(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path, dask_address=f"tcp://127.0.0.1:{free_port()}")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tasks.spread.CONNECT_S", 1.0)
        with pytest.raises(NightbeamError, match="no Dask scheduler answers"), cluster_of(settings):
            pass
