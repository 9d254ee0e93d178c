"""Our file in other people's programs, each in an environment of its own: shape, calibration and values are right."""

import json
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from storage.spec import FileSpec
from storage.write import FrameWriter
from tests.peer_environments import python_of
from tests.storage.storage_world import FACTS, counts, spec_at

PEERS = Path(__file__).parent / "peers"

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]


def seen_by(peer: str, path: Path) -> Any:
    """What a peer's script prints of a file."""
    command = [python_of(PEERS / f"{peer}.txt"), PEERS / f"read_{peer}.py", path]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> FileSpec:
    spec = spec_at(tmp_path_factory.mktemp("peers") / "a.h5", (10, 12), (32, 24), virtual_detectors=("BF",))
    with FrameWriter(spec) as writer:
        writer.write(0, counts(spec))
        writer.finish(
            {"virtual/BF": np.arange(120, dtype=np.uint64).reshape(10, 12), "sum_pattern": np.ones((32, 24), np.uint64)}
        )
    return spec


@pytest.fixture(scope="module")
def truth(file: FileSpec) -> dict[str, Any]:
    frames = counts(file)
    return {"shape": [10, 12, 32, 24], "sum": float(frames.sum()), "corner": frames[:, 0, 0].tolist()}


def test_libertem(file: FileSpec, truth: dict[str, Any]) -> None:
    assert seen_by("libertem", file.path) == [truth] * 3


def test_hyperspy(file: FileSpec, truth: dict[str, Any]) -> None:
    found = seen_by("hyperspy", file.path)
    assert truth.items() <= found.items()
    assert found["class"] == "Signal2D"
    assert found["navigate"] == [True, True, False, False]
    assert found["names"] == ["scan_y", "scan_x", "det_y", "det_x"]
    assert found["units"] == ["nm", "nm", "mrad", "mrad"]
    np.testing.assert_allclose(found["scales"], [0.5, 0.5, 1.25, 1.25])
    np.testing.assert_allclose(found["offsets"], [0, 0, -15.5 * 1.25, -11.5 * 1.25])


def test_py4dstem(file: FileSpec, truth: dict[str, Any]) -> None:
    found = seen_by("py4dstem", file.path)
    assert truth.items() <= found.items()
    assert (found["class"], found["scan"], found["detector"]) == ("DataCube", [0.5, "nm"], [1.25, "mrad"])


def test_silx(file: FileSpec, truth: dict[str, Any]) -> None:
    found = seen_by("silx", file.path)
    assert truth.items() <= found.items()
    assert (found["valid"], found["path"], found["interpretation"]) == (True, "/entry/data", "image")
    assert found["names"] == ["scan_y", "scan_x", "det_y", "det_x"]
    assert found["units"] == ["nm", "nm", "mrad", "mrad"]
    np.testing.assert_allclose(found["steps"], [0.5, 0.5, 1.25, 1.25])
    assert len(found["maps"]) == 9
    assert all(found["maps"].values())


def test_hdf5_1_14(file: FileSpec, truth: dict[str, Any]) -> None:
    found = seen_by("h5py311", file.path)
    assert found["hdf5"].startswith("1.14.")
    assert truth.items() <= found.items()
    assert found["units"] == ["nm", "nm", "mrad", "mrad"]
    assert dict(FACTS).items() <= found["metadata"].items()
    assert found["ledger"] == 120
    assert found["map"] == np.arange(120).reshape(10, 12).tolist()
