"""Processes: started, read line by line, and ended with everything they started."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import shlex
import signal
import subprocess
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

FOLDER = Path(__file__).parent
ROOT = FOLDER.parent.parent
HOST = "127.0.0.1"
READY_S = 20.0
RUN_S = 30.0


class Program:
    """A running process, its output kept line by line and in a file."""

    def __init__(self, name: str, argv: list[str], env: dict[str, str], folder: Path) -> None:
        self.name = name
        self.argv = argv
        self._lines: queue.Queue[str | None] = queue.Queue()
        self._out_path = folder / f"{name}.out"
        self._err_path = folder / f"{name}.err"
        with self._err_path.open("wb") as errors:
            self.process = subprocess.Popen(
                argv,
                stdin=subprocess.PIPE,  # the Rust programs end with it, should this process be killed
                stdout=subprocess.PIPE,
                stderr=errors,
                env=env,
                cwd=folder,
                start_new_session=True,
            )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        with self._out_path.open("w") as log:
            for raw in self.process.stdout:
                line = raw.decode(errors="replace")
                log.write(line)
                log.flush()
                self._lines.put(line)
        self._lines.put(None)

    def line(self, accept: Callable[[str], Any], what: str, timeout_s: float = READY_S) -> Any:
        """What `accept` makes of the first line that it makes something of; the lines before are dropped."""
        end = time.monotonic() + timeout_s
        while True:
            try:
                line = self._lines.get(timeout=max(0.0, end - time.monotonic()))
            except queue.Empty:
                raise AssertionError(f"{self.name}: no {what} within {timeout_s} s\n{self.log()}") from None
            if line is None:
                raise AssertionError(
                    f"{self.name}: ended with {self.process.wait(5)} before {what}\n{self.log()}"
                )
            if accepted := accept(line):
                return accepted

    def event(self, name: str, timeout_s: float = READY_S) -> dict[str, Any]:
        """The next event of that name on stdout."""

        def accept(line: str) -> dict[str, Any] | None:
            with contextlib.suppress(ValueError):
                event = json.loads(line)
                if isinstance(event, dict) and (event.get("event") == name or event.get(name) is True):
                    return event
            return None

        found: dict[str, Any] = self.line(accept, f"event {name!r}", timeout_s)
        return found

    def say(self, text: str) -> None:
        """Write to the program's stdin."""
        assert self.process.stdin is not None
        self.process.stdin.write(text.encode())
        self.process.stdin.flush()

    def log(self) -> str:
        """The command line and the last of both outputs."""
        parts = ["$ " + shlex.join(self.argv)]
        for path in (self._out_path, self._err_path):
            if path.exists():
                lines = path.read_text(errors="replace").splitlines()
                parts += [f"  {path.suffix[1:]}| {line[:400]}" for line in lines[-40:]]
        return "\n".join(parts)

    def stop(self) -> None:
        """SIGTERM, then SIGKILL to whatever is left of its group."""
        if self.process.poll() is None:
            self.process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(3)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(5)
        self._reader.join(5)
        for stream in (self.process.stdin, self.process.stdout):
            if stream is not None:
                with contextlib.suppress(BrokenPipeError):
                    stream.close()


class Programs:
    """Every process of this run, so that none outlives its test."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._running: list[Program] = []
        self._count = 0

    def start(self, name: str, argv: list[str], env: dict[str, str]) -> Program:
        self._count += 1
        program = Program(f"{self._count:03}-{name}", argv, env, self._folder)
        self._running.append(program)
        return program

    def mark(self) -> int:
        return len(self._running)

    def stop_since(self, mark: int) -> None:
        """End what was started after `mark`, last first, even when one resists."""
        with contextlib.ExitStack() as stack:
            for program in self._running[mark:]:
                stack.callback(program.stop)
        del self._running[mark:]

    def logs(self) -> Iterator[tuple[str, str]]:
        for program in self._running:
            yield program.name, program.log()


def run(argv: list[str], env: dict[str, str], timeout_s: float = RUN_S) -> subprocess.CompletedProcess[str]:
    """A command that ends by itself; stdin is empty."""
    try:
        return subprocess.run(
            argv, env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=timeout_s
        )
    except subprocess.TimeoutExpired as error:
        raise AssertionError(f"{shlex.join(argv)}: not done after {timeout_s} s\n{error.stderr!r}") from None


def story(done: subprocess.CompletedProcess[str]) -> str:
    """One finished command, for the text of an assertion."""
    return f"$ {shlex.join(done.args)}\nexit {done.returncode}\nout| {done.stdout}\nerr| {done.stderr}"


def plain_environment() -> dict[str, str]:
    """This process's environment without anything that steers either implementation."""
    return {k: v for k, v in os.environ.items() if not k.startswith("OCKAM")}


def until(condition: Callable[[], Any], what: str, log: Callable[[], str], timeout_s: float = READY_S) -> Any:
    """The first true value of a question that can only be asked again and again."""
    end = time.monotonic() + timeout_s
    while True:
        if answer := condition():
            return answer
        assert time.monotonic() < end, f"not within {timeout_s} s: {what}\n{log()}"
        time.sleep(0.1)
