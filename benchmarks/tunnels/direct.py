"""No tunnel: what the machine and the load generator can do."""

from __future__ import annotations

from typing import TYPE_CHECKING

from benchmarks.tunnels.tunnel import End, Tunnel

if TYPE_CHECKING:
    from contextlib import ExitStack
    from pathlib import Path


class Direct(Tunnel):
    """The client connects to the service itself."""

    name = "direct"

    def open_far(self, stack: ExitStack, folder: Path, target_port: int) -> End:
        """Nothing to start."""
        return End((), target_port)

    def open_near(self, stack: ExitStack, folder: Path, far: End) -> End:
        """Nothing to start."""
        return End((), far.port)
