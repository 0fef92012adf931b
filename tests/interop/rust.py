"""Ockam's Rust code: two programs with one meaning for the tests."""

from __future__ import annotations

import hashlib
import json
import os
import re
import time
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

import pytest

from tests.interop.places import Place, port_of
from tests.interop.programs import HOST, RUN_S, plain_environment, run, story, until

if TYPE_CHECKING:
    import subprocess
    from pathlib import Path

    from tests.interop.programs import Program, Programs

REFUSAL_S = 4
"""How long a peer is asked that is expected to stay silent: Ockam has no message that says no."""


class RefusedError(Exception):
    """The other side did not answer, or said no; carries what was printed."""


class Rust(Protocol):
    """What the tests ask of a Rust implementation; `who` names one of its identities."""

    relays_through_channels: bool
    """True if its relays take registrations through a secure channel."""

    def identifier(self, who: str) -> str: ...

    def identifier_of(self, history: str) -> str:
        """What it calls the identity of a change history in hex."""

    def node(self, *, who: str = "server", only: str | None = None, target: str | None = None) -> Place:
        """A node with `echo`, `uppercase`, relays, a listener (for `only`, or all), an outlet."""

    def outlet_at(self, relay: Place, name: str, target: str) -> Place:
        """An outlet that accepts no connection and is `name` at a relay."""

    def inlet(self, place: Place, *, who: str = "client", only: str | None = None) -> int: ...

    def send(
        self, place: Place, worker: str, text: str, *, who: str = "client", only: str | None = None
    ) -> str:
        """The reply to a message.

        Raises:
            RefusedError: there was none.
        """

    def responder(self, place: Place) -> str:
        """Who answers at a listener."""


class RustPeer:
    """Our own program on the public API of the `ockam` crate."""

    relays_through_channels = True

    def __init__(self, binary: str, programs: Programs) -> None:
        self._binary = binary
        self._programs = programs
        self._env = plain_environment()

    def _call(self, *words: str) -> subprocess.CompletedProcess[str]:
        return run([self._binary, *words], self._env)

    def start(self, command: str, *words: str) -> tuple[Program, dict[str, Any]]:
        program = self._programs.start(f"rust-{command}", [self._binary, command, *words], self._env)
        return program, program.event("ready")

    @staticmethod
    def _as(who: str) -> tuple[str, str]:
        return "--identity-secret", hashlib.sha256(who.encode()).hexdigest()

    def identifier(self, who: str) -> str:
        done = self._call("credential", "identity", *self._as(who))
        assert done.returncode == 0, story(done)
        return str(json.loads(done.stdout)["identifier"])

    def identifier_of(self, history: str) -> str:
        done = self._call("credential", "issue", "--subject", history)
        assert done.returncode == 0, story(done)
        return str(json.loads(done.stdout)["subject"])

    def node(
        self, *, who: str = "server", only: str | None = None, target: str | None = None, forward: str = ""
    ) -> Place:
        words = ["--listen", f"{HOST}:0", "--trust", only or "everyone", *self._as(who)]
        words += ["--outlet", target] if target else []
        words += ["--forward", forward] if forward else []
        _, ready = self.start("node", *words)
        return Place(port_of(ready["tcp"][0]), "secure_channel_listener", identifier=ready["identifier"])

    def outlet_at(self, relay: Place, name: str, target: str) -> Place:
        words = ["--target", target, "--relay", relay.hops(), "--name", name, *self._as("server")]
        _, ready = self.start("outlet", *words)
        assert ready["remote_address"] == f"forward_to_{name}"
        return Place(relay.port, ready["listener"], name, ready["identifier"])

    def inlet(self, place: Place, *, who: str = "client", only: str | None = None) -> int:
        words = ["--listen", f"{HOST}:0", "--route", place.hops(), "--trust", only or "everyone"]
        _, ready = self.start("inlet", *words, *self._as(who))
        return port_of(ready["listen"])

    def channel(self, place: Place, *words: str, who: str = "client", only: str | None = None) -> list[Any]:
        """The lines of `ockam-peer channel`: who answered, then the round trips."""
        clear = [] if place.listener else ["--clear"]
        return self.channel_by(
            "--route", place.hops(), "--trust", only or "everyone", *self._as(who), *clear, *words
        )

    def channel_by(self, *words: str) -> list[Any]:
        """The same, all options given."""
        done = self._call("channel", *words)
        if done.returncode:
            raise RefusedError(story(done))
        return [json.loads(line) for line in done.stdout.splitlines()]

    def send(
        self, place: Place, worker: str, text: str, *, who: str = "client", only: str | None = None
    ) -> str:
        words = ("--to", worker, "--text", text, "--timeout", str(REFUSAL_S))
        self.channel(place, *words, who=who, only=only)  # compares the reply itself
        return text.upper() if worker == "uppercase" else text

    def responder(self, place: Place) -> str:
        return str(self.channel(place, "--count", "0")[0]["responder"])


class OckamCommand:
    """A release of Ockam's own command, with a home of its own, offline."""

    SERVICES: ClassVar = {
        "OCKAM_DISABLE_UPGRADE_CHECK": "true",
        "OCKAM_TELEMETRY_EXPORT": "false",
        "OCKAM_OPENTELEMETRY_EXPORT": "false",
        "NO_INPUT": "true",
        "NO_COLOR": "true",
        "QUIET": "true",
    }

    def __init__(self, binary: str, home: Path, programs: Programs) -> None:
        self._binary = binary
        self._programs = programs
        self._env = plain_environment() | self.SERVICES | {"OCKAM_HOME": str(home)}
        self._made: set[str] = set()
        # Relays of 0.139 refuse also their own release through a channel without a project.
        self.relays_through_channels = release_of(self._call("--version").stdout) > (0, 139, 0)
        # Releases after 0.139 serve a health page on a fixed port unless told not to.
        usage = self._call("node", "create", "--help").stdout
        self._quiet = ["--no-status-endpoint"] if "--no-status-endpoint" in usage else []
        # A home whose first node has stopped refuses most commands, so the first one only stays.
        self._base = self._node("base")[0]

    def _call(self, *words: str, timeout_s: float = RUN_S) -> subprocess.CompletedProcess[str]:
        return run([self._binary, *words], self._env, timeout_s)

    def ask(self, *words: str) -> str:
        done = self._call(*words)
        assert done.returncode == 0, story(done)
        return done.stdout.strip()

    def identifier(self, who: str) -> str:
        if who not in self._made:
            self.ask("identity", "create", who)
            self._made.add(who)
        return self.ask("identity", "show", who)

    def identifier_of(self, history: str) -> str:
        name = f"imported-{hashlib.sha256(history.encode()).hexdigest()[:8]}"
        self.ask("identity", "create", name, "--identity", history)
        return self.ask("identity", "show", name)

    def _node(self, who: str) -> tuple[str, int]:
        """The name and the port of a new node in the foreground."""
        self.identifier(who)
        name = f"n{self._programs.mark()}x{len(self._made)}x{time.monotonic_ns()}"
        argv = [self._binary, "node", "create", name, "-f", "--exit-on-eof", "-vv", "--identity", who]
        argv += ["--tcp-listener-address", f"{HOST}:0", *self._quiet]
        program = self._programs.start("ockam-node", argv, self._env)

        def address() -> Any:
            done = self._call("node", "show", name, "--output", "json")
            shown = json.loads(done.stdout) if done.returncode == 0 else {}
            # A node that is not there yet is an empty list.
            return (
                isinstance(shown, dict) and shown.get("status") == "running" and shown["transports"] and shown
            )

        shown = until(address, f"node {name}", lambda: program.log())
        tcp = next(transport for transport in shown["transports"] if transport["type"].lower() == "tcp")
        return name, port_of(tcp["socket_addr"])

    def node(self, *, who: str = "server", only: str | None = None, target: str | None = None) -> Place:
        name, port = self._node(who)
        listener = "api"
        if only:
            listener = "restricted"
            self.ask("secure-channel-listener", "create", listener, "--at", name, "--authorized", only)
        if target:
            self.ask("tcp-outlet", "create", "--at", name, "--to", target)
        return Place(port, listener, identifier=self.identifier(who))

    def outlet_at(self, relay: Place, name: str, target: str) -> Place:
        node, _ = self._node("server")
        self.ask("tcp-outlet", "create", "--at", node, "--to", target)
        self.ask("relay", "create", name, "--to", node, "--at", relay.multiaddr())
        return Place(relay.port, "api", name, self.identifier("server"))

    def inlet(self, place: Place, *, who: str = "client", only: str | None = None) -> int:
        node, _ = self._node(who)
        words = ["--alias", "in", "--at", node, "--from", f"{HOST}:0", "--to", place.multiaddr("outlet")]
        words += ["--authorized", only] if only else []
        shown = json.loads(self.ask("tcp-inlet", "create", *words, "--output", "json"))

        def up() -> bool:
            state = json.loads(self.ask("tcp-inlet", "show", "in", "--at", node, "--output", "json"))
            return str(state["status"]).lower() == "up"

        until(up, f"inlet to {place.multiaddr('outlet')} up", lambda: self._logs())
        return port_of(shown["bind_addr"])

    def _logs(self) -> str:
        return "\n".join(text for _, text in self._programs.logs())

    def send(
        self, place: Place, worker: str, text: str, *, who: str = "client", only: str | None = None
    ) -> str:
        self.identifier(who)
        patience = ("--timeout", f"{REFUSAL_S}s")
        if only is None:
            to = ("--identity", who, "--to", place.multiaddr(worker))
        else:
            # A node waits two minutes for a channel that it refuses, and does nothing else meanwhile.
            node, _ = self._node(who)
            far = place.clear.multiaddr(place.listener or "")
            words = ("secure-channel", "create", "--from", node, "--to", far, "--authorized", only)
            try:
                made = self._call(*words, timeout_s=2 * REFUSAL_S)
            except AssertionError as error:
                raise RefusedError(str(error)) from None
            if made.returncode:
                raise RefusedError(story(made))
            to = ("--from", node, "--to", f"{made.stdout.strip()}/service/{worker}")
        done = self._call("message", "send", text, *patience, *to)
        if done.returncode:
            raise RefusedError(story(done))
        return done.stdout.strip()

    def responder(self, place: Place) -> str:
        far = place.clear.multiaddr(place.listener or "")
        shown = self._call("secure-channel", "show", "--at", far, "--output", "json")
        if shown.returncode == os.EX_USAGE:
            pytest.skip("this release shows only the channels of its own nodes")
        found = re.search(r"I[0-9a-f]{64}", shown.stdout)
        assert found, story(shown)
        return found.group()


def release_of(printed: str) -> tuple[int, ...]:
    """The release in what `ockam --version` prints; some releases colour it even without a terminal."""
    found = re.search(r"(\d+)\.(\d+)\.(\d+)", re.sub(r"\x1b\[[\d;]*m", "", printed))
    return tuple(map(int, found.groups())) if found else ()
