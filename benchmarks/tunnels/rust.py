"""Ockam's own portal in Rust, through the `ockam-peer` program of the interop tests."""

from __future__ import annotations

import shutil
import time
from typing import TYPE_CHECKING

from benchmarks.processes import program
from benchmarks.tunnels.tunnel import End, Running, Tunnel, port_of

if TYPE_CHECKING:
    from contextlib import ExitStack
    from pathlib import Path

_LISTENER = "secure_channel_listener"


class RustPortal(Tunnel):
    """Inlet, secure channel over one TCP connection, outlet."""

    name = "rust"

    def __init__(self, ockam_peer: str) -> None:
        self.program = ockam_peer

    def obstacle(self) -> str | None:
        """Whether the program can be found."""
        if shutil.which(self.program):
            return None
        return f"{self.program} not found (set OCKAM_PEER or use --ockam-peer)"

    def open_far(self, stack: ExitStack, folder: Path, target_port: int) -> End:
        """Start an outlet that listens."""
        command = [self.program, "outlet", "--target", f"127.0.0.1:{target_port}", "--listen", "127.0.0.1:0"]
        running = stack.enter_context(program([*command, "--listener", _LISTENER], folder, "rust-outlet"))
        ready = running.ready()
        facts = {"identifier": ready["identifier"]}
        return End((running.pid,), port_of(_listening(ready)), facts=facts)

    def open_near(self, stack: ExitStack, folder: Path, far: End) -> End:
        """Start an inlet that trusts this outlet alone."""
        return self.inlet(stack, folder, f"tcp:127.0.0.1:{far.port}", far.facts["identifier"])

    def inlet(self, stack: ExitStack, folder: Path, route: str, identifier: str) -> End:
        """An inlet that opens its channel over `route`."""
        command = [self.program, "inlet", "--listen", "127.0.0.1:0", "--route", route]
        command += ["--secure", _LISTENER, "--trust", identifier]
        running = stack.enter_context(program(command, folder, "rust-inlet"))
        ready = running.ready()
        return End((running.pid,), port_of(_listening(ready)), time.perf_counter() - running.started)

    def relayed(self, stack: ExitStack, folder: Path, target_port: int) -> Running:
        """The portal through a relay node of the same program."""
        relay = stack.enter_context(
            program([self.program, "node", "--listen", "127.0.0.1:0"], folder, "rust-relay")
        )
        middle = End((relay.pid,), port_of(_listening(relay.ready(), "tcp")))
        route = f"tcp:127.0.0.1:{middle.port}"
        command = [self.program, "outlet", "--target", f"127.0.0.1:{target_port}", "--relay", route]
        command += ["--name", "bench", "--listener", _LISTENER]
        outlet = stack.enter_context(program(command, folder, "rust-outlet"))
        ready = outlet.ready()
        near = self.inlet(stack, folder, f"{route},forward_to_bench", ready["identifier"])
        return Running(near, End((outlet.pid,), 0), middle)


def _listening(ready: dict[str, object], key: str = "listen") -> str:
    listen = ready[key]
    return str(listen[0] if isinstance(listen, list) else listen)
