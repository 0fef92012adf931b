"""The command under test: a stranger here, known by its public contract."""

from __future__ import annotations

import os
import shlex
import sys
from typing import TYPE_CHECKING, Any

from tests.interop.places import Place, port_of
from tests.interop.programs import HOST, ROOT, RUN_S, plain_environment, run, story

if TYPE_CHECKING:
    import subprocess
    from pathlib import Path

    from tests.interop.programs import Program, Programs


def ockamlite_argv() -> list[str]:
    given = os.environ.get("OCKAMLITE")
    return shlex.split(given) if given else [sys.executable, "-m", "ockamlite"]


class Ockamlite:
    """The `ockamlite` command with a state folder of its own."""

    OUTLET_LISTENER = "secure_channel_listener"

    def __init__(self, home: Path, programs: Programs) -> None:
        self._programs = programs
        paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
        self.env = plain_environment() | {
            "OCKAMLITE_HOME": str(home),
            "NO_COLOR": "1",
            "PYTHONPATH": os.pathsep.join(paths),
        }

    def run(self, *words: str, timeout_s: float = RUN_S) -> subprocess.CompletedProcess[str]:
        return run([*ockamlite_argv(), *words], self.env, timeout_s)

    def ask(self, *words: str) -> str:
        """The stdout of a command that must succeed."""
        done = self.run(*words)
        assert done.returncode == 0, story(done)
        return done.stdout.strip()

    def python(self, source: str, *words: str) -> str:
        """The stdout of a program that uses the library in a process of its own."""
        done = run([sys.executable, "-c", source, *words], self.env)
        assert done.returncode == 0, story(done)
        return done.stdout.strip()

    def start(self, command: str, *words: str) -> tuple[Program, dict[str, Any]]:
        """A long-running command and its ready event."""
        argv = [*ockamlite_argv(), command, *words, "--output", "json"]
        program = self._programs.start(f"ockamlite-{command}", argv, self.env)
        return program, program.event("ready")

    def identifier(self, name: str = "default") -> str:
        if name != "default":
            self.run("identity", "create", name)  # exit 73 where it exists
        return self.ask("identity", "show", name)

    def listening(self, command: str, *words: str, identity: str = "default") -> tuple[Program, Place]:
        """A node, an outlet or a relay that accepts TCP on a free port."""
        words = (*words, "--listen", f"tcp:{HOST}:0")
        if command != "relay":
            words = (*words, "--identity", identity)
        program, ready = self.start(command, *words)
        listener = None if command == "relay" else self.OUTLET_LISTENER
        return program, Place(port_of(ready["listening"][0]), listener, identifier=ready["identifier"])

    def inlet(self, *words: str) -> int:
        """The port of an inlet."""
        _, ready = self.start("inlet", f"tcp:{HOST}:0", *words)
        return port_of(ready["listening"][0])

    def send(self, place: Place, worker: str, text: str, *options: str) -> str:
        """The reply to one message; `options` say whom to trust."""
        return self.ask("send", place.hops(worker), text, *options)
