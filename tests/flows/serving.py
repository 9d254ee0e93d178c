"""`nightbeam serve` as a process of its own, here or in a network namespace that a test has made."""

import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx

TOKEN = "c0rrect-horse-battery-staple"
SERVER, CLIENT = "192.0.2.1", "192.0.2.2"
"""Two machines on a cable between two namespaces; addresses that belong to nobody."""

_ASK = """
import http.client, sys
port, path, host, *headers = sys.argv[1:]
asked = http.client.HTTPConnection(host, int(port), timeout=20)
try:
    asked.request("GET", path, headers=dict(each.split(": ", 1) for each in headers))
    answer = asked.getresponse()
    print(answer.status, answer.headers.get("location", ""))
except OSError as error:
    print(type(error).__name__)
"""


def environment(home: Path, **variables: str) -> dict[str, str]:
    """The environment of a command with a home of its own."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("NIGHTBEAM_")}
    return {**kept, "NIGHTBEAM_HOME": str(home), **variables}


class Serving:
    """A server that runs, with a client on this machine."""

    def __init__(self, process: "subprocess.Popen[str]", said: str, client: httpx.Client) -> None:
        self.process, self.said, self.client = process, said, client
        self.get, self.post, self.url = client.get, client.post, str(client.base_url)
        self.ended: tuple[int, str] = (0, "")
        """Exit code and what it said on standard error."""


@contextmanager
def serving(home: Path, *arguments: str, within: Sequence[str] = (), **variables: str) -> Iterator[Serving]:
    """A server until the end of the block, then asked to end as Ctrl+C does."""
    port = () if "--port" in arguments else ("--port", "0")
    process = subprocess.Popen(
        [*within, sys.executable, "-m", "flows.cli", "serve", *port, *arguments],
        env=environment(home, **variables),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        said = process.stdout.readline()
        assert said.startswith("http://"), process.communicate(timeout=20)
        with httpx.Client(base_url=said.split()[0], timeout=30, trust_env=False) as client:
            server = Serving(process, said, client)
            yield server
        process.send_signal(2)
        more, told = process.communicate(timeout=30)
        server.said += more
        server.ended = (process.returncode, told)
    finally:
        process.kill()
        process.wait()
        for pipe in (process.stdout, process.stderr):
            if pipe is not None:
                pipe.close()


class Cable:
    """Two machines and how commands are run on each."""

    def __init__(self, here: int, there: int) -> None:
        self.here, self.there = (("nsenter", f"--net=/proc/{pid}/ns/net") for pid in (here, there))

    def ask(self, path: str, *headers: str, port: int, host: str = SERVER) -> str:
        """Status and location of an answer as the other machine has it, or the error that it meets."""
        done = subprocess.run(
            [*self.there, sys.executable, "-S", "-c", _ASK, str(port), path, host, *headers],
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
        return done.stdout.strip()


@contextmanager
def cable() -> Iterator[Cable]:
    """Two network namespaces joined by virtual interfaces; the network of this machine is not touched."""
    with ExitStack() as stack:
        held = [_namespace(stack) for _ in range(2)]
        pair = ("link", "add", "wire", "netns", str(held[0]), "type", "veth", "peer", "name", "wire")
        subprocess.run(["ip", *pair, "netns", str(held[1])], check=True, capture_output=True)
        made = Cable(*held)
        for there, address in ((made.here, SERVER), (made.there, CLIENT)):
            for settings in (("addr", "add", f"{address}/24", "dev", "wire"), ("link", "set", "wire", "up")):
                subprocess.run([*there, "ip", *settings], check=True, capture_output=True)
            subprocess.run([*there, "ip", "link", "set", "lo", "up"], check=True, capture_output=True)
        yield made


def _namespace(stack: ExitStack) -> int:
    """A process that keeps a namespace; it ends when its input does, as with us."""
    process = subprocess.Popen(
        ["unshare", "--net", "sh", "-c", "echo made; read line"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    stack.callback(process.wait)
    stack.callback(process.kill)
    stack.enter_context(process)
    assert process.stdout is not None
    assert process.stdout.readline() == "made\n", "no namespace"
    return process.pid
