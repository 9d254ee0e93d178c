"""Foreign formats: what the recorded files say, and readers that misbehave."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np
import psutil
import pytest

import storage.foreign
from stem4d.errors import BadInput
from storage.foreign import ChildLimits
from storage.foreign_facts import Unreadable, understand
from storage.read import open_frames

ROOT = Path(__file__).parents[2]
MERLIN, MERLIN_ROI, BLO = (
    "recorded_merlin_6bit/001_4x2_6bit.mib",
    "recorded_merlin_6bit/002_4x2_6bit_roi128.mib",
    "recorded_nanomegas_blo/test1.blo",
)
FRAME = 384 + 256 * 256
FRAMED = """
import struct, sys
def send(text):
    sys.stdout.buffer.write(struct.pack('>I', len(text)) + text)
    sys.stdout.flush()
"""


BEFORE = set(psutil.Process().children(recursive=True))


@pytest.fixture(autouse=True)
def _children_of_earlier_tests() -> None:
    """Other tests of this process may have left helpers, such as multiprocessing's: they are not ours."""
    BEFORE.update(psutil.Process().children(recursive=True))


def children() -> list[psutil.Process]:
    return [child for child in psutil.Process().children(recursive=True) if child not in BEFORE]


@pytest.mark.parametrize(
    ("name", "scan", "detector", "full_scale", "saturated", "facts"),
    [
        # 4x2 in the file's name is x by y; what stands at full scale was counted in the raw bytes.
        (MERLIN, (2, 4), (256, 256), 63, (1932, 1956), {"exposure_time_us": 1e5}),
        (MERLIN_ROI, (2, 4), (128, 256), 63, (1881, 2191), {"exposure_time_us": 1e5}),
        (BLO, (3, 2), (144, 144), 255, (46, 50), {"beam_energy_kev": 200.0, "scan_step_nm": 12.8}),
    ],
)
def test_recorded_files_say_what_they_are(
    recorded_data: Path,
    name: str,
    scan: tuple[int, int],
    detector: tuple[int, int],
    full_scale: int,
    saturated: tuple[int, int],
    facts: dict[str, float],
) -> None:
    with open_frames(recorded_data / name) as frames:
        assert (frames.kind, frames.scan_shape, frames.detector_shape) == ("foreign", scan, detector)
        assert (frames.dtype, frames.full_scale, frames.metadata) == (np.uint8, full_scale, facts)
        assert (frames.recorded.all(), frames.online()) == (True, {})
        first_pass = list(frames.batches(max_bytes=3 * detector[0] * detector[1]))
        positions = [first for first, _ in first_pass]
        assert positions == list(range(0, scan[0] * scan[1], 3))
        data = np.concatenate([batch for _, batch in first_pass])
        at_full_scale = (data == full_scale).sum((1, 2))
        assert (at_full_scale.min(), at_full_scale.max()) == saturated
    assert children() == []


def test_what_else_a_file_is_read_from_is_told(recorded_data: Path) -> None:
    with open_frames(recorded_data / MERLIN) as frames:
        assert [one.name for one in frames.beside] == [Path(MERLIN).with_suffix(".hdr").name]
    with open_frames(recorded_data / BLO) as frames:
        assert frames.beside == ()


def test_merlin_frames_are_those_in_the_file_in_every_pass(recorded_data: Path) -> None:
    raw = np.frombuffer((recorded_data / MERLIN).read_bytes(), np.uint8).reshape(8, FRAME)[:, 384:]
    with open_frames(recorded_data / MERLIN) as frames:
        ((_, data),) = frames.batches()
        # RosettaSciIO turns Merlin frames so that row 0 is the top, as on the camera's own screen.
        np.testing.assert_array_equal(data, raw.reshape(8, 256, 256)[:, ::-1])
        unfinished = frames.batches(max_bytes=1)
        next(unfinished)
        assert len(children()) == 1
    assert children() == []


@pytest.mark.parametrize(
    ("frames_kept", "change", "scan", "full_scale", "facts"),
    [
        (8, None, (2, 4), 63, {}),
        (5.5, None, (1, 4), 63, {"frames_left_out": 1.0}),
        (3.5, None, (1, 3), 63, {}),  # no line end to be seen
        (8, ("Frames per Trigger (Number):\t1", "Frames per Trigger (Number):\t2"), (4, 2), 63, {}),
        (8, ("Gain:", "ScanX:\t2\nScanY:\t4\nGain:"), (4, 2), 63, {}),
        (8, ("Counter Depth (number):\t6", "Counter Depth (number):\t12"), (2, 4), 4095, {}),
        (8, ("Counter Depth (number):\t6", "Counter Depth (number):\t99"), (2, 4), None, {}),
        (8, "no .hdr", (2, 4), 63, {}),
    ],
)
def test_merlin_shape_and_depth_follow_the_headers(
    recorded_data: Path,
    tmp_path: Path,
    frames_kept: float,
    change: tuple[str, str] | str | None,
    scan: tuple[int, int],
    full_scale: int | None,
    facts: dict[str, float],
) -> None:
    (tmp_path / "a.mib").write_bytes((recorded_data / MERLIN).read_bytes()[: int(frames_kept * FRAME)])
    if change != "no .hdr":
        text = (recorded_data / MERLIN).with_suffix(".hdr").read_text()
        (tmp_path / "a.hdr").write_text(text.replace(*change) if isinstance(change, tuple) else text)
    found = understand(str(tmp_path / "a.mib"))  # in this process: a child each would take half a minute
    assert (found.header["scan_shape"], found.header["full_scale"]) == (scan, full_scale)
    assert found.header["metadata"] == {"exposure_time_us": 1e5} | facts
    assert sum(map(len, found.blocks(100_000, 0))) == scan[0] * scan[1] * 256 * 256


def test_a_file_that_ends_among_its_frames_is_refused(recorded_data: Path, tmp_path: Path) -> None:
    (tmp_path / "a.blo").write_bytes((recorded_data / BLO).read_bytes()[:60_000])
    with pytest.raises(BadInput, match=r"frame 0: .*mmap length") as refused:
        list(open_frames(tmp_path / "a.blo").batches())
    assert "\n" not in str(refused.value)
    assert children() == []


@pytest.mark.parametrize(
    ("name", "kept", "message"),
    [
        ("a.mib", 100, "QuantumDetector: "),
        ("a.mib", FRAME - 1, "QuantumDetector: "),
        ("a.xyz", 9, r"no reader for \.xyz"),
    ],
)
def test_what_is_no_data_set_is_said_by_the_reader(tmp_path: Path, name: str, kept: int, message: str) -> None:
    (tmp_path / name).write_bytes(b"MQ1,000001,00384,01,0256,0256,U08".ljust(FRAME, b" ")[:kept])
    with pytest.raises(Unreadable, match=message):
        understand(str(tmp_path / name))


def test_missing_rosettasciio_is_named_with_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storage.foreign, "find_spec", lambda _: None)
    (tmp_path / "a.mib").write_text("x")
    with pytest.raises(BadInput, match=r"pip install 'nightbeam\[formats\]'"):
        open_frames(tmp_path / "a.mib")


@pytest.fixture
def reader(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Path]:
    """Replaces the child by a script of one's own; gives a file for it to read."""

    def use(script: str) -> Path:
        (tmp_path / "reader.py").write_text(script)
        monkeypatch.setattr(storage.foreign, "COMMAND", (sys.executable, str(tmp_path / "reader.py")))
        (tmp_path / "a.mib").write_bytes(b"x" * 1000)
        return tmp_path / "a.mib"

    return use


@pytest.mark.parametrize(
    ("script", "message"),
    [
        ("import time; time.sleep(60)", "no answer before the shape"),
        (FRAMED + "send(b'{\"scan_shape\": [2, 2]}'); import time; time.sleep(60)", "no answer at frame 0"),
        ("import sys; sys.stdout.buffer.write(b'\\xff' * 9)", "a header of 4,294,967,295 B"),
        (FRAMED + "send(b'[]')", "header: "),
        (FRAMED + "send(b'{\"scan_shape\": [0, 2]}')", "header: "),
        (FRAMED + 'send(b\'{"dtype": "object"}\')', "header: "),
        (FRAMED + 'send(b\'{"dtype": "float8"}\')', "header: "),
        (FRAMED + "send(b'{\"full_scale\": NaN}')", "header: "),
        (FRAMED + "send(b'{\"scan_shape\": [9000, 9000]}')", "67,108,864 positions"),
        (FRAMED + 'send(b\'{"scan_shape": [1000, 1000], "detector_shape": [2000, 2000]}\')', "B claimed"),
        (FRAMED + 'send(b\'{"error": "no lines"}\')', "no lines"),
        (FRAMED + "send(b'{\"scan_shape\": [2, 2]}'); sys.stdout.buffer.write(b'abc')", "code 0 at frame 0"),
        (FRAMED + "send(b'{}'); sys.stdout.flush(); raise KeyError('tag 7')", "code 1 at frame 0: KeyError: 'tag 7'"),
        ("import os; os.abort()", "code -6"),
    ],
)
def test_a_reader_that_misbehaves_is_ended_with_one_message(
    reader: Callable[[str], Path], script: str, message: str
) -> None:
    silent, sleeps = script.startswith("import time"), "sleep" in script
    limits = ChildLimits(first_answer_s=0.3 if silent else 60, batch_s=0.3 if sleeps else 60)
    with pytest.raises(BadInput) as refused:
        list(open_frames(reader(script), limits).batches())
    assert message in str(refused.value)
    assert "\n" not in str(refused.value)
    assert children() == []


BOMB = f"""
import sys; sys.path.insert(0, {str(ROOT)!r})
from storage import foreign_child, foreign_facts
def bomb(*_):
    return bytes(2**30)
def late_bomb(*_):
    yield bytes(2**30)
def found(path):
    return foreign_facts.Found(dict(scan_shape=[1, 4]), late_bomb)
if sys.argv[1].endswith("a.mib"):
    WHERE
foreign_child.main()
"""


@pytest.mark.parametrize(
    ("where", "message"),
    [
        ("foreign_facts.understand = bomb", "out of memory before the shape"),
        ("foreign_facts.understand = found", "out of memory at frame 0"),
    ],
)
def test_a_memory_bomb_ends_at_the_limit(reader: Callable[[str], Path], where: str, message: str) -> None:
    path = reader(BOMB.replace("WHERE", where))
    with pytest.raises(BadInput, match=message) as refused:
        list(open_frames(path, ChildLimits(memory_bytes=600 * 2**20)).batches())
    assert "the reader may use 629,145,600 B" in str(refused.value)


def test_too_much_processor_time_is_named(recorded_data: Path) -> None:
    with open_frames(recorded_data / MERLIN) as frames:
        os.killpg(children()[0].pid, signal.SIGXCPU)  # as the kernel does at RLIMIT_CPU
        with pytest.raises(BadInput, match="may use 3600 s of processor time"):
            list(frames.batches())


def test_the_child_has_limits_and_no_network() -> None:
    code = (
        "import resource, socket, subprocess\n"
        "from storage.foreign_child import _confine\n"
        "_confine(2**30, 10, 7)\n"
        "print(*(resource.getrlimit(getattr(resource, 'RLIMIT_' + k))[0] for k in ('DATA', 'AS', 'CPU', 'CORE')))\n"
        "def call(): socket.create_connection(('127.0.0.1', 9))\n"
        "def start(): subprocess.run(['true'])\n"
        "for act in (call, start):\n"
        "    try: act()\n"
        "    except PermissionError: print('refused')\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.split() == [str(2**30), str(2**30 + 20), "7", "0", "refused", "refused"]


def test_the_child_dies_with_its_parent(recorded_data: Path) -> None:
    code = (
        "import os, sys, psutil; from storage.read import open_frames\n"
        "frames = open_frames(sys.argv[1])\n"
        "print(psutil.Process().children()[0].pid, flush=True); os.kill(os.getpid(), 9)"
    )
    file = str(recorded_data / MERLIN)
    done = subprocess.run([sys.executable, "-c", code, file], cwd=ROOT, capture_output=True, text=True)
    with suppress(psutil.NoSuchProcess):
        psutil.Process(int(done.stdout)).wait(timeout=10)
