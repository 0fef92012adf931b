"""Starting the measured programs, waiting until they serve, and reading what they cost from /proc (Linux)."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.errors import BenchmarkError, NotReadyError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
READY_TIMEOUT_S = 20.0
STOP_TIMEOUT_S = 5.0


@dataclass(frozen=True, slots=True)
class Program:
    """A running program whose stdout and stderr go to files.

    Files, not pipes: what it prints while it is measured must neither block it nor wake the load generator.
    """

    process: subprocess.Popen[bytes]
    stdout: Path
    stderr: Path
    started: float
    """`time.perf_counter()` just before it was started."""

    @property
    def pid(self) -> int:
        """The process id."""
        return self.process.pid

    def first_line(self) -> str:
        """The first line on stdout, waited for; NotReadyError if it ends or stays silent."""
        deadline = time.monotonic() + READY_TIMEOUT_S
        while time.monotonic() < deadline:
            text = self.stdout.read_text(errors="replace")
            if "\n" in text:
                return text.partition("\n")[0]
            if self.process.poll() is not None:
                raise NotReadyError(f"ended with exit code {self.process.returncode}: {self._last_words()}")
            time.sleep(0.001)
        raise NotReadyError(f"not ready after {READY_TIMEOUT_S:.0f} s: {self._last_words()}")

    def ready(self) -> dict[str, Any]:
        """The ready line as an object; NotReadyError if it is not one."""
        return _object(self.first_line())

    def result(self, timeout_s: float) -> dict[str, Any]:
        """The last line on stdout as an object, after the program's own end."""
        try:
            code = self.process.wait(timeout_s)
        except subprocess.TimeoutExpired as error:
            raise BenchmarkError(f"still running after {timeout_s:.0f} s") from error
        if code:
            raise BenchmarkError(f"ended with exit code {code}: {self._last_words()}")
        return _object(self.stdout.read_text(errors="replace").strip().rpartition("\n")[2])

    def _last_words(self) -> str:
        lines = self.stderr.read_text(errors="replace").strip().splitlines()
        return lines[-1][:200] if lines else "it said nothing"


def _object(line: str) -> dict[str, Any]:
    try:
        value = json.loads(line)
    except ValueError as error:
        raise NotReadyError(f"not a line of JSON: {line[:100]}") from error
    if not isinstance(value, dict):
        raise NotReadyError(f"not an object: {line[:100]}")
    return value


@contextmanager
def program(
    command: Sequence[str], folder: Path, name: str, environment: Mapping[str, str] | None = None
) -> Iterator[Program]:
    """Start a program, end it with SIGTERM (then SIGKILL) on leaving; its files are `folder/name.*`."""
    stdout, stderr = folder / f"{name}.out", folder / f"{name}.err"
    with stdout.open("wb") as out, stderr.open("wb") as err:
        started = time.perf_counter()
        try:
            process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,  # held open: some peers end with their stdin
                stdout=out,
                stderr=err,
                env={**os.environ, **(environment or {})},
            )
        except OSError as error:
            raise NotReadyError(f"cannot start {command[0]}: {error.strerror}") from error
    try:
        yield Program(process, stdout, stderr, started)
    finally:
        if process.stdin is not None:
            process.stdin.close()
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
        try:
            process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@dataclass(frozen=True, slots=True)
class _Stat:
    parent: int
    ticks: int
    """User and system time, own and of children that were waited for."""


def _stat(pid: int) -> _Stat | None:
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except (OSError, ValueError):
        return None
    # The name in parentheses may hold spaces and parentheses; fields are counted after the last one.
    fields = text[text.rindex(")") + 2 :].split()
    return _Stat(int(fields[1]), sum(map(int, fields[11:15])))


def tree(roots: Iterable[int]) -> list[int]:
    """The given processes that live, and all their descendants."""
    stats = {int(p.name): _stat(int(p.name)) for p in Path("/proc").iterdir() if p.name.isdigit()}
    found = [pid for pid in roots if stats.get(pid)]
    for pid in found:
        found.extend(child for child, s in stats.items() if s and s.parent == pid and child not in found)
    return found


def cpu_seconds(roots: Iterable[int]) -> float:
    """Processor time used so far by the processes and their descendants, in steps of a clock tick (10 ms)."""
    return sum(s.ticks for pid in tree(roots) if (s := _stat(pid))) / _TICKS_PER_S


def rss_mib(roots: Iterable[int]) -> float:
    """Resident memory of the processes and their descendants, in MiB; shared pages count in each."""
    total = 0
    for pid in tree(roots):
        try:
            status = Path(f"/proc/{pid}/status").read_text()
        except OSError:
            continue
        total += sum(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS:"))
    return total / 1024
