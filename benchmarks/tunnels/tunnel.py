"""What a tunnel is to the measures: a far end beside the service, a near end beside the client."""

from __future__ import annotations

import socket
import tempfile
from abc import ABC, abstractmethod
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping


@dataclass(frozen=True, slots=True)
class End:
    """One end of a tunnel, running."""

    pids: tuple[int, ...]
    """Its processes; their descendants are part of it."""
    port: int
    """Where this end listens: the far end for the near one, the near end for clients."""
    ready_s: float = 0.0
    """From the start of its process until it said that it can serve."""
    facts: Mapping[str, str] = field(default_factory=dict)
    """What the other end has to know: identifiers, key files."""


@dataclass(frozen=True, slots=True)
class Running:
    """A tunnel with both ends up."""

    near: End
    far: End
    middle: End | None = None
    """A relay between the ends."""

    @property
    def port(self) -> int:
        """Where clients connect to."""
        return self.near.port

    @property
    def pids(self) -> tuple[int, ...]:
        """The processes of both ends and of what is between."""
        return self.near.pids + (self.middle.pids if self.middle else ()) + self.far.pids


class Tunnel(ABC):
    """A way to a TCP service that can be measured."""

    name: str

    def obstacle(self) -> str | None:
        """Why it cannot be measured here, or None."""
        return None

    def help_command(self) -> list[str] | None:
        """The program's shortest run, for start-up times; None if there is none."""
        return None

    @abstractmethod
    def open_far(self, stack: ExitStack, folder: Path, target_port: int) -> End:
        """Start the end that dials the service; it ends with the stack."""

    @abstractmethod
    def open_near(self, stack: ExitStack, folder: Path, far: End) -> End:
        """Start the end that clients connect to; it ends with the stack."""

    @contextmanager
    def opened(self, target_port: int) -> Iterator[Running]:
        """Both ends, in a folder of their own that is deleted afterwards; may raise NotReadyError."""
        with ExitStack() as stack:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix=f"bench-{self.name}-")))
            far = self.open_far(stack, folder, target_port)
            yield Running(self.open_near(stack, folder, far), far)


def free_port() -> int:
    """A TCP port that was free a moment ago, for programs that cannot pick one."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


def port_of(endpoint: str) -> int:
    """The port in `HOST:PORT` or `tcp:HOST:PORT`."""
    return int(endpoint.rpartition(":")[2])
