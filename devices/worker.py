"""The acquisition as a process of its own: what a full disk or a bad codec kills is not the owner of the beam."""

import ctypes
import importlib
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from multiprocessing.connection import Connection
from typing import Any, Literal

import numpy as np

from devices.acquire import AcquisitionJob, AcquisitionResult, OnListening, OnProgress, Progress, acquire
from stem4d.errors import DeviceFault, NightbeamError
from storage.crash import crash_point
from storage.disk import DiskFull

ANSWER_TIMEOUT_S = 30.0
"""A worker whose parent does not answer a progress message for so long stops by itself."""
ARMING_TIMEOUT_S = 300.0
"""The same for "listening", which is answered when the detector is armed and the beam on: a detector may take 120 s to
answer its arm, 120 s more to be ready, and its column a while."""
ALIVE_EVERY_S = 0.5
"""How often a child says that it lives, whatever its main thread does."""
HUNG_S = 5.0
"""A child that says nothing for so long, before its last frame, is stopped or starved: nobody takes the frames."""
START_TIMEOUT_S = 300.0
"""Longest time from the start of the process to its "listening"; imports on a slow disk or a busy machine take most of
it, and the beam is off."""
FINISH_TIMEOUT_S = 3600.0
"""Longest time to close, sync, read back and hash a file: 360 GB at 100 MB/s. The beam is off by then."""
_PR_SET_PDEATHSIG = 1

Kind = Literal["alive", "listening", "progress", "done", "error"]


class Worker:
    """A process for one exposure. It may be started long before: its imports are done by then."""

    def __init__(self, on_started: Callable[[int], None] = lambda _pid: None, imports: tuple[str, ...] = ()) -> None:
        context = multiprocessing.get_context("spawn")
        self.pipe, theirs = context.Pipe()
        arguments = (theirs, os.getpid(), imports)
        self._process = context.Process(target=_child, args=arguments, daemon=True, name="nightbeam-worker")
        # Ctrl+C is the parent's to answer, also before the child can say so: a blocked signal waits for `_child`.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            self._process.start()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        theirs.close()
        on_started(self._process.pid or 0)

    @property
    def lives(self) -> bool:
        """Whether it can still be given something."""
        return self._process.is_alive()

    def give(self, job: AcquisitionJob) -> None:
        """Say what to receive; one that died meanwhile is noticed when it is listened to."""
        with suppress(BrokenPipeError, ConnectionResetError):
            self.pipe.send(job)

    def exit_code(self) -> int | None:
        """How it ended, or is about to."""
        self._process.join(timeout=5)
        return self._process.exitcode

    def end(self) -> None:
        """Be rid of it: one that waits for a job ends at once, one that has done its job soon."""
        self.pipe.close()
        if self._process.is_alive():
            self._process.join(timeout=2)
        if self._process.is_alive():
            self._process.kill()
            self._process.join(timeout=5)


def acquire_in_child(
    job: AcquisitionJob,
    on_listening: OnListening,
    on_progress: OnProgress,
    silence_timeout_s: float = 60.0,
    on_failing: Callable[[], None] = lambda: None,
    on_started: Callable[[int], None] = lambda _pid: None,
    worker: Worker | None = None,
) -> AcquisitionResult:
    """Receive one exposure in a child process, whose number ``on_started`` is told; else as ``acquire``.

    ``worker`` is one that was started before, and is used if it still lives.

    ``on_failing`` is called after an error before the child is waited for: no beam has to stay on for that.

    Raises
    ------
    DeviceFault
        When the child dies, sends nothing for ``silence_timeout_s`` while frames come, or does not finish its file
        within an hour; frames it flushed are on disk.
    """
    if worker is None or not worker.lives:
        worker = Worker(on_started)
    try:
        worker.give(job)
        return _follow(worker.pipe, on_listening, on_progress, silence_timeout_s)
    except BaseException as error:
        on_failing()
        if not isinstance(error, _WorkerGoneError):
            raise
        raise DeviceFault(
            f"the acquisition process died (exit code {worker.exit_code()}); "
            f"frames flushed before that are kept in {job.file.path}.partial"
        ) from None
    finally:
        worker.end()


def _follow(
    pipe: Connection, on_listening: OnListening, on_progress: OnProgress, silence_timeout_s: float
) -> AcquisitionResult:
    timeout_s, hung_s = START_TIMEOUT_S, START_TIMEOUT_S
    heard_s = time.monotonic()
    while True:
        # Twice: what came while this process itself was stopped is there, and says that the child was not.
        if not pipe.poll(min(hung_s, max(0.0, heard_s + timeout_s - time.monotonic()))) and not pipe.poll(0.1):
            silent_s = min(hung_s, timeout_s)
            raise DeviceFault(
                f"the acquisition process has said nothing for {silent_s:g} s, and was ended; frames it flushed are "
                "kept. Is this machine too busy, or its disk too slow, for the detector?"
            )
        kind, content = _heard(pipe)
        if kind == "alive":
            continue
        timeout_s = silence_timeout_s
        match kind:
            case "listening":
                on_listening()
                hung_s = HUNG_S
                _answer(pipe, None)
            case "progress":
                if content.ended:
                    timeout_s = hung_s = FINISH_TIMEOUT_S
                _answer(pipe, on_progress(content))
            case "done":
                result: AcquisitionResult = content
                return result
            case "error":
                raise content
        heard_s = time.monotonic()


class _WorkerGoneError(Exception):
    """The acquisition process closed its end."""


def _heard(pipe: Connection) -> Any:
    """What a child says; raises `_WorkerGoneError` where it died, also in the middle of a message."""
    try:
        return pipe.recv()
    except (EOFError, OSError):
        # Not only an end: a reset where our last answer was not read any more, an error where a message is cut.
        raise _WorkerGoneError from None


def _answer(pipe: Connection, answer: str | None) -> None:
    """Answer a child; one that has not waited for it has said why, and that is read next."""
    with suppress(BrokenPipeError, ConnectionResetError):
        pipe.send(answer)


class _ParentGoneError(Exception):
    """The process that wanted the frames closed its end."""


class _Line:
    """The child's end of the pipe: its main thread speaks, and beside it one that says that it lives."""

    def __init__(self, pipe: Connection) -> None:
        self._pipe, self._speaking = pipe, threading.Lock()

    def send(self, kind: Kind, content: object) -> None:
        with self._speaking:
            self._pipe.send((kind, content))

    def live(self) -> None:
        """Say so until the parent has gone."""
        with suppress(OSError):
            while True:
                time.sleep(ALIVE_EVERY_S)
                self.send("alive", None)


def _ask(pipe: Connection, line: _Line, kind: Kind, content: object, timeout_s: float) -> str | None:
    """Tell the parent, and give its answer; raises `DeviceFault` where none comes in time."""
    try:
        line.send(kind, content)
        if not pipe.poll(timeout_s):
            raise DeviceFault(f"the run's process has not answered {kind!r} for {timeout_s:g} s")
        answer: str | None = pipe.recv()
    except (EOFError, BrokenPipeError, ConnectionResetError):
        raise _ParentGoneError from None
    return answer


def _child(pipe: Connection, parent_pid: int, imports: tuple[str, ...]) -> None:
    """Wait for a job, run the acquisition and speak to the parent; ends with it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl+C is the parent's to answer: it stops us in order
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent_pid:
        return
    _make_ready(pipe, imports)
    try:
        job: AcquisitionJob = pipe.recv()
    except (EOFError, OSError):
        return  # there is none, and will be none
    crash_point("worker.start")
    line = _Line(pipe)
    threading.Thread(target=line.live, daemon=True).start()

    def on_listening() -> None:
        crash_point("worker.listening")
        _ask(pipe, line, "listening", None, ARMING_TIMEOUT_S)

    def on_progress(progress: Progress) -> str | None:
        crash_point("worker.ended" if progress.ended else "worker.progress")
        try:
            return _ask(pipe, line, "progress", progress, ANSWER_TIMEOUT_S)
        except DeviceFault as error:
            return str(error)  # a stop in order: the frames are good

    try:
        result = acquire(job, on_listening, on_progress)
    except _ParentGoneError:
        return  # nobody is there to be told; what came is on disk
    except NightbeamError as error:
        line.send("error", error)
        if isinstance(error, DiskFull):
            _leave()
    except Exception as error:  # noqa: BLE001 - the parent must hear of anything that ends this process
        line.send("error", DeviceFault(f"acquisition failed: {type(error).__name__}: {error}"))
        _leave()
    else:
        crash_point("worker.done")
        line.send("done", result)


def _make_ready(pipe: Connection, imports: tuple[str, ...]) -> None:
    """Do what a job would have to do first; what goes wrong here goes wrong again there, and is told then."""
    with suppress(Exception):
        for name in ("devices.intake", "storage.write", *imports):
            importlib.import_module(name)
        if not pipe.poll():  # nobody waits yet: numba sets itself up with its first kernel, whichever that is
            importlib.import_module("stem4d.kernels").block_kernel(np.dtype(np.uint16))


def _leave() -> None:
    """End at once: to take down in order what HDF5 could not write prints pages of tracebacks, and may crash."""
    os._exit(1)
