"""The command as users and scripts meet it: processes, their lines, their exit codes."""

from __future__ import annotations

import json
import os
import queue
import signal
import socket
import subprocess
import sys
import threading
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

_ROOT = Path(__file__).parents[2]
PATIENCE_S = 15.0


class Finished(Protocol):
    returncode: int
    stdout: str
    stderr: str


class Run(Protocol):
    def __call__(
        self, *arguments: str, home: Path | None = None, given: bytes = b"", **environment: str
    ) -> Finished: ...


class Serve(Protocol):
    def __call__(self, *arguments: str, home: Path | None = None, **environment: str) -> Serving: ...


def clean_environment(home: Path, more: Mapping[str, str]) -> dict[str, str]:
    kept = {key: value for key, value in os.environ.items() if not key.startswith("OCKAMLITE_")}
    path = os.pathsep.join([str(_ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    return kept | {"OCKAMLITE_HOME": str(home), "PYTHONPATH": path} | dict(more)


class Serving:
    """A command that serves."""

    def __init__(self, arguments: tuple[str, ...], environment: dict[str, str]) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "ockamlite", *arguments],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self._lines: dict[str, queue.Queue[str]] = {"stdout": queue.Queue(), "stderr": queue.Queue()}
        self._readers = [
            threading.Thread(target=self._read, args=(name,), daemon=True) for name in self._lines
        ]
        for reader in self._readers:
            reader.start()

    def _read(self, name: str) -> None:
        stream = getattr(self.process, name)
        for line in stream:
            self._lines[name].put(line.rstrip("\n"))
        stream.close()
        self._lines[name].put("")

    def line(self, stream: str = "stdout") -> str:
        """The next line; empty when there are no more."""
        return self._lines[stream].get(timeout=PATIENCE_S)

    def event(self, kind: str) -> dict[str, Any]:
        """The next event of a kind; others are passed over."""
        while line := self.line():
            found: dict[str, Any] = json.loads(line)
            if found["event"] == kind:
                return found
        raise AssertionError(f"no event {kind}; stderr: {self.rest('stderr')}")

    def line_with(self, text: str, stream: str = "stderr") -> str:
        """The next line that holds a text."""
        while line := self.line(stream):
            if text in line:
                return line
        raise AssertionError(f"no line with {text!r}")

    def rest(self, stream: str) -> str:
        """All lines up to the end of the process."""
        lines = []
        while line := self.line(stream):
            lines.append(line)
        return "\n".join(lines)

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Send a signal, wait, return the exit code."""
        self.process.send_signal(number)
        return self.process.wait(PATIENCE_S)

    def end(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(PATIENCE_S)
        for reader in self._readers:
            reader.join(PATIENCE_S)


@pytest.fixture(scope="session")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Run the command to its end."""
    shared = tmp_path_factory.mktemp("home") / "state"

    def go(*arguments: str, home: Path | None = None, given: bytes = b"", **environment: str) -> Finished:
        done = subprocess.run(
            [sys.executable, "-m", "ockamlite", *arguments],
            env=clean_environment(home or shared, environment),
            input=given,
            capture_output=True,
            timeout=PATIENCE_S + 15,
            check=False,
        )
        return subprocess.CompletedProcess(
            done.args, done.returncode, done.stdout.decode(errors="replace"), done.stderr.decode()
        )

    return go


@contextmanager
def _serving(shared: Path) -> Iterator[Serve]:
    started: list[Serving] = []

    def go(*arguments: str, home: Path | None = None, **environment: str) -> Serving:
        serving = Serving(arguments, clean_environment(home or shared, environment))
        started.append(serving)
        return serving

    try:
        yield go
    finally:
        for serving in started:
            serving.end()


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Serve]:
    """Start commands that serve; they end with the test."""
    with _serving(tmp_path / "state") as go:
        yield go


@pytest.fixture(scope="module")
def serve_all(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serve]:
    """The same; they end with the module."""
    with _serving(tmp_path_factory.mktemp("served") / "state") as go:
        yield go


@pytest.fixture(scope="session")
def homes(run: Run, tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, str]]:
    """State folders and identifiers of two machines and a stranger's."""
    folder = tmp_path_factory.mktemp("homes")
    found = {}
    for name in ("pi", "laptop", "stranger"):
        done = run("identity", "create", home=folder / name)
        assert done.returncode == 0, done.stderr
        found[name] = (folder / name, done.stdout.strip())
    return found


@pytest.fixture
def tcp_server() -> Iterator[Callable[[Callable[[socket.socket], None]], int]]:
    """Start a TCP server that treats each connection with a function; return its port."""
    listening: list[socket.socket] = []

    def start(treat: Callable[[socket.socket], None]) -> int:
        server = socket.create_server(("127.0.0.1", 0))
        listening.append(server)

        def accept() -> None:
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                threading.Thread(target=_treat, args=(connection,), daemon=True).start()

        def _treat(connection: socket.socket) -> None:
            with connection:
                try:
                    treat(connection)
                except OSError:
                    return

        threading.Thread(target=accept, daemon=True).start()
        port: int = server.getsockname()[1]
        return port

    yield start
    for server in listening:
        server.shutdown(socket.SHUT_RDWR)
        server.close()


@pytest.fixture(scope="session")
def port_of() -> Callable[[dict[str, Any]], int]:
    """The first port of a ready event."""

    def find(ready: dict[str, Any]) -> int:
        return int(ready["listening"][0].rpartition(":")[2])

    return find
