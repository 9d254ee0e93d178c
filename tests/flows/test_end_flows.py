"""Before a worker ends: its flows are asked to, and it takes up no other meanwhile."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import psutil
import pytest

from db import launches
from db.engine import writer
from flows.serving.end_flows import end_flows
from storage.processes import mark_of
from storage.settings import Settings
from tasks.outbox import open_database

OBEYS = "print('here', flush=True); import time; time.sleep(600)"
DEAF = f"import signal; signal.signal(15, signal.SIG_IGN); {OBEYS}"


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as opened:
        yield opened


def child(stack: ExitStack, program: str) -> "subprocess.Popen[str]":
    """A process that has begun, and is gone at the end."""
    process = stack.enter_context(subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True))
    stack.callback(process.kill)
    assert process.stdout is not None
    assert process.stdout.readline() == "here\n"
    return process


def recorded(settings: Settings, process: "subprocess.Popen[str]") -> None:
    """A launch that this process runs."""
    engine = open_database(settings)
    with writer(engine) as session:
        launches.begin(
            session,
            source="person",
            key="k",
            flow="night",
            flow_run_id="f",
            deployment="nightly",
            process=mark_of(process.pid),
        )
    engine.dispose()


@pytest.mark.parametrize(("program", "code", "all_ended"), [(OBEYS, -15, True), (DEAF, -9, False)])
def test_flows_end_while_their_worker_stands_still(
    program: str, code: int, all_ended: bool, tmp_path: Path, stack: ExitStack
) -> None:
    settings, said = Settings(home=tmp_path), list[str]()
    worker, flow = child(stack, OBEYS), child(stack, program)
    recorded(settings, flow)
    # Who obeys is gone at the first look; who does not has two.
    assert end_flows(settings, [worker.pid], said.append, 60.0 if all_ended else 0.4) is all_ended
    assert flow.wait(10) == code
    assert psutil.Process(worker.pid).status() == psutil.STATUS_STOPPED
    assert said[0] == "ending night"
    assert len(said) == (1 if all_ended else 2)


def test_a_worker_that_has_gone_keeps_nobody_from_ending(tmp_path: Path, stack: ExitStack) -> None:
    worker = child(stack, OBEYS)
    worker.kill()
    worker.wait()
    settings = Settings(home=tmp_path)
    open_database(settings).dispose()
    assert end_flows(settings, [worker.pid], print)


def test_a_flow_that_its_worker_has_just_begun_ends_with_the_others(tmp_path: Path, stack: ExitStack) -> None:
    begins = f"import subprocess, sys; child = subprocess.Popen([sys.executable, '-c', {OBEYS!r}]); child.wait()"
    worker = child(stack, begins)  # its child says that it is here
    (flow,) = psutil.Process(worker.pid).children()
    settings, said = Settings(home=tmp_path), list[str]()
    open_database(settings).dispose()
    assert end_flows(settings, [worker.pid], said.append)
    assert said == ["ending a flow that begins"]
    # Nobody reaps it while its worker stands still.
    assert not flow.is_running() or flow.status() == psutil.STATUS_ZOMBIE


def test_flows_of_workers_end_though_nothing_can_be_asked_of_the_record(tmp_path: Path, stack: ExitStack) -> None:
    begins = f"import subprocess, sys; child = subprocess.Popen([sys.executable, '-c', {OBEYS!r}]); child.wait()"
    worker, said = child(stack, begins), list[str]()
    assert end_flows(Settings(home=tmp_path / "none"), [worker.pid], said.append)
    assert said[0].startswith("only flows of workers are found")
    assert said[1:] == ["ending a flow"]
