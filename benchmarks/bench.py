"""The setting of one run: the service, the tunnels that are up, the sizes."""

from __future__ import annotations

import sys
import tempfile
import time
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.load import blocks_of, bulk_down, bulk_up
from benchmarks.processes import cpu_seconds, program

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from benchmarks.tunnels.tunnel import Running, Tunnel

_WARM_UP_MIB = 8


@dataclass(frozen=True, slots=True)
class Sizes:
    """How much of everything a round takes."""

    bulk_mib: int = 512
    round_trips: int = 4000
    new_connections: int = 1000
    seconds: float = 2.0
    """How long what has no natural end is run: messages on busy connections, round trips beside bulk."""

    @classmethod
    def quick(cls) -> Sizes:
        """Enough to see that everything works; the figures are coarse."""
        return cls(bulk_mib=64, round_trips=1000, new_connections=200, seconds=0.7)


@dataclass(frozen=True, slots=True)
class Cost:
    """What went by while something ran."""

    tunnel_s: float
    """Processor time of the tunnel."""
    load_s: float
    """Processor time of the load generator and the service."""


class Bench:
    """Keeps tunnels up from round to round, and reads what they cost."""

    def __init__(self, stack: ExitStack, tunnels: Mapping[str, Tunnel], sizes: Sizes) -> None:
        self.tunnels, self.sizes = tunnels, sizes
        self._stack = stack
        self._up: dict[str, tuple[ExitStack, Running]] = {}
        self.folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-")))
        target = stack.enter_context(
            program([sys.executable, "-m", "benchmarks.target"], self.folder, "target")
        )
        self.target_pid, self.target_port = target.pid, int(target.ready()["port"])

    def running(
        self, name: str, opener: Callable[[], AbstractContextManager[Running]] | None = None
    ) -> Running:
        """The tunnel of this name, started and warmed up at its first use."""
        if name not in self._up:
            with ExitStack() as stack:
                if opener is None:
                    running = stack.enter_context(self.tunnels[name].opened(self.target_port))
                else:
                    running = stack.enter_context(opener())
                bulk_up(running.port, blocks_of(_WARM_UP_MIB))
                bulk_down(running.port, blocks_of(_WARM_UP_MIB))
                kept = self._stack.enter_context(stack.pop_all())
            self._up[name] = kept, running
        return self._up[name][1]

    def drop(self, name: str) -> None:
        """Stop a tunnel, because it failed or is not needed any more."""
        if name in self._up:
            self._up.pop(name)[0].close()

    def meter(self, pids: tuple[int, ...]) -> Callable[[], Cost]:
        """Start counting processor time; the returned function says what was used since."""

        def now() -> tuple[float, float]:
            return cpu_seconds(pids), time.process_time() + cpu_seconds([self.target_pid])

        tunnel, load = now()

        def cost() -> Cost:
            tunnel_now, load_now = now()
            return Cost(tunnel_now - tunnel, load_now - load)

        return cost

    @contextmanager
    def bulk_beside(self, port: int, seconds: float) -> Iterator[Callable[[], float]]:
        """Send in bulk, from a process of its own, while inside.

        The yielded function waits for the end of the transfer and returns its MiB/s.
        """
        command = [sys.executable, "-m", "benchmarks.load", str(port), str(seconds)]
        with program(command, self.folder, "beside") as sender:
            sender.first_line()

            def finish() -> float:
                return float(sender.result(seconds + 30.0)["mib_per_s"])

            yield finish


def temporary(opener: Callable[[ExitStack, Path], Running]) -> Callable[[], AbstractContextManager[Running]]:
    """Make a tunnel's opener, which takes a stack and a folder, a context manager that owns both."""

    @contextmanager
    def opened() -> Iterator[Running]:
        with ExitStack() as stack:
            yield opener(stack, Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-"))))

    return opened
