"""ockamlite itself, by its command line: an outlet that listens, an inlet that dials it, relays between."""

from __future__ import annotations

import os
import subprocess
import time
from typing import TYPE_CHECKING

from benchmarks.errors import NotReadyError
from benchmarks.processes import Program, program
from benchmarks.tunnels.tunnel import End, Running, Tunnel, port_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from contextlib import ExitStack
    from pathlib import Path


class Ockamlite(Tunnel):
    """Two homes, two identities, each allowing the other alone."""

    name = "ockamlite"

    def __init__(self, command: Sequence[str], *, environment: Mapping[str, str] | None = None) -> None:
        self.command = list(command)
        self._environment = dict(environment or {})

    def obstacle(self) -> str | None:
        """Whether the command runs at all."""
        try:
            done = subprocess.run(
                [*self.command, "--help"],
                capture_output=True,
                timeout=20,
                check=False,
                stdin=subprocess.DEVNULL,
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            return f"`{' '.join(self.command)} --help`: {error}"
        if done.returncode == 0:
            return None
        last = done.stderr.decode(errors="replace").strip().splitlines()[-1:] or ["it said nothing"]
        return f"`{' '.join(self.command)} --help` ended with {done.returncode}: {last[0]}"

    def help_command(self) -> list[str] | None:
        """`ockamlite --help`."""
        return [*self.command, "--help"]

    def open_far(self, stack: ExitStack, folder: Path, target_port: int) -> End:
        """Start an outlet that listens on TCP."""
        return self.outlet(stack, folder, target_port, "--listen", "tcp:127.0.0.1:0")

    def open_near(self, stack: ExitStack, folder: Path, far: End) -> End:
        """Start an inlet that goes straight to the outlet."""
        return self.inlet(stack, folder, far, "--via", f"tcp:127.0.0.1:{far.port}")

    def outlet(self, stack: ExitStack, folder: Path, target_port: int, *way: str) -> End:
        """An outlet reached by `way`; it allows the inlet of the same folder."""
        near, far = self.identity(folder, "near"), self.identity(folder, "far")
        running = self._start(
            stack, folder, "far", "outlet", f"tcp:127.0.0.1:{target_port}", *way, "--allow", near
        )
        ready = running.ready()
        listening = [endpoint for endpoint in ready.get("listening", ()) if endpoint.startswith("tcp:")]
        port = port_of(listening[0]) if listening else 0
        return End((running.pid,), port, facts={"identifier": far})

    def inlet(self, stack: ExitStack, folder: Path, far: End, *way: str) -> End:
        """An inlet that goes by `way` and allows this outlet alone."""
        allow = ("--allow", far.facts["identifier"])
        running = self._start(stack, folder, "near", "inlet", "tcp:127.0.0.1:0", *way, *allow)
        ready = running.ready()
        return End((running.pid,), port_of(ready["listening"][0]), time.perf_counter() - running.started)

    def relay(self, stack: ExitStack, folder: Path, number: int = 0) -> End:
        """A relay, which also lets what passes through go out over TCP."""
        command = ("relay", "--listen", "tcp:127.0.0.1:0", "--forward", "tcp")
        running = self._start(stack, folder, f"relay{number}", *command)
        return End((running.pid,), port_of(running.ready()["listening"][0]))

    def forwarding(self, stack: ExitStack, folder: Path, listens: str, onward: str) -> End:
        """A node in the middle that lets what passes through go out over one more link."""
        command = ("node", "--listen", listens, "--forward", onward, "--trust-everyone", "--ephemeral")
        running = self._start(stack, folder, "middle", *command)
        running.ready()
        return End((running.pid,), 0)

    def relayed(self, stack: ExitStack, folder: Path, target_port: int) -> Running:
        """The portal through a relay."""
        middle = self.relay(stack, folder)
        way = ("--relay", f"tcp:127.0.0.1:{middle.port}", "--name", "bench")
        far = self.outlet(stack, folder, target_port, *way)
        return Running(self.inlet(stack, folder, far, *way), far, middle)

    def chain(self, stack: ExitStack, folder: Path, target_port: int, hops: int) -> Running:
        """The portal over `hops` TCP links, one after the other, with a node between each two."""
        nodes = [self.relay(stack, folder, number) for number in range(hops - 1)]
        far = self.open_far(stack, folder, target_port)
        way = ",".join(f"tcp:127.0.0.1:{end.port}" for end in (*nodes, far))
        near = self.inlet(stack, folder, far, "--via", way)
        middle = End(tuple(pid for node in nodes for pid in node.pids), 0) if nodes else None
        return Running(near, far, middle)

    def identity(self, folder: Path, home: str) -> str:
        """The identifier of a home's default identity, made on first use."""
        done = subprocess.run(
            [*self.command, "identity", "show"],
            capture_output=True,
            text=True,
            timeout=20,
            check=False,
            stdin=subprocess.DEVNULL,
            env=_environment(folder, home),
        )
        if done.returncode:
            said = done.stderr.strip().splitlines()[-1:] or ["it said nothing"]
            raise NotReadyError(f"identity show ended with {done.returncode}: {said[0][:200]}")
        return done.stdout.strip()

    def _start(self, stack: ExitStack, folder: Path, home: str, *arguments: str) -> Program:
        command = [*self.command, *arguments, "--output", "json"]
        name = f"ockamlite-{home}"
        environment = {**self._environment, **_home(folder, home)}
        return stack.enter_context(program(command, folder, name, environment))


def _home(folder: Path, home: str) -> dict[str, str]:
    return {"OCKAMLITE_HOME": str(folder / f"home-{home}")}


def _environment(folder: Path, home: str) -> dict[str, str]:
    return {**os.environ, **_home(folder, home)}
