"""Real processes of two implementations on loopback: the `ockamlite` command, and Ockam's Rust code.

Everything here starts, watches and stops processes, or translates one meaning into three dialects of command
line. Nothing imports `ockamlite`: the command under test is a stranger here, known by its public contract.

Environment: `OCKAM_PEER` (the binary of `rust-peer/`), `OCKAM` (binaries of the `ockam` command, separated as
in PATH), `OCKAMLITE` (the command under test, default: this interpreter's), `INTEROP_TABLE` (where the page
of results is written, as `--interop-table` says).
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import hashlib
import http.client
import http.server
import json
import os
import platform
import queue
import random
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator

FOLDER = Path(__file__).parent
ROOT = FOLDER.parent.parent
HOST = "127.0.0.1"
READY_S = 20.0
RUN_S = 30.0
REFUSAL_S = 4
"""How long a peer is asked that is expected to stay silent: Ockam has no message that says no."""
BLOB = random.Random(20).randbytes(10 * 1024 * 1024)
"""What goes through every portal, both ways."""
BLOB_SHA256 = hashlib.sha256(BLOB).hexdigest()


class RefusedError(Exception):
    """The other side did not answer, or said no; carries what was printed."""


# --- processes ------------------------------------------------------------------------------------


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


# --- places ---------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True, slots=True)
class Place:
    """Where a service is, before a dialect of routes is chosen."""

    port: int
    """TCP port of the first node, on loopback."""
    listener: str | None = None
    """Open a secure channel to this listener; none: in clear."""
    relay: str | None = None
    """The first node is a relay, and the service behind this name of it."""
    identifier: str | None = None
    """Who is there, where known."""

    def at(self, relay: Place, name: str) -> Place:
        """The same service, reached through the name that it has at a relay."""
        return dataclasses.replace(self, port=relay.port, relay=name)

    @property
    def clear(self) -> Place:
        return dataclasses.replace(self, listener=None)

    def hops(self, *workers: str) -> str:
        """As `ockamlite` and `ockam-peer` write it."""
        words = [f"tcp:{HOST}:{self.port}"]
        words += [f"forward_to_{self.relay}"] if self.relay else []
        words += [f"secure:{self.listener}"] if self.listener else []
        return ",".join([*words, *workers])

    def multiaddr(self, *workers: str) -> str:
        """As the `ockam` command writes it."""
        text = f"/ip4/{HOST}/tcp/{self.port}"
        text += f"/service/forward_to_{self.relay}" if self.relay else ""
        text += f"/secure/{self.listener}" if self.listener else ""
        return text + "".join(f"/service/{worker}" for worker in workers)


# --- the command under test -----------------------------------------------------------------------


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


def port_of(endpoint: str) -> int:
    return int(endpoint.rsplit(":", 1)[1])


# --- Ockam's Rust code ----------------------------------------------------------------------------


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


def until(condition: Callable[[], Any], what: str, log: Callable[[], str], timeout_s: float = READY_S) -> Any:
    """The first true value of a question that can only be asked again and again."""
    end = time.monotonic() + timeout_s
    while True:
        if answer := condition():
            return answer
        assert time.monotonic() < end, f"not within {timeout_s} s: {what}\n{log()}"
        time.sleep(0.1)


# --- which Rust programs there are ----------------------------------------------------------------


@dataclasses.dataclass(frozen=True, slots=True)
class Binary:
    """A Rust program to test against, or why there is none."""

    label: str
    path: str = ""
    missing: str = ""

    @property
    def is_peer(self) -> bool:
        return self.label.startswith("ockam-peer")


def peer_binary() -> Binary:
    lock = tomllib.loads((FOLDER / "rust-peer" / "Cargo.lock").read_text())
    version = next(package["version"] for package in lock["package"] if package["name"] == "ockam")
    label = f"ockam-peer {version}"
    given = os.environ.get("OCKAM_PEER")
    path = Path(given) if given else FOLDER / "rust-peer" / "target" / "release" / "ockam-peer"
    if os.access(path, os.X_OK):
        return Binary(label, str(path.resolve()))
    manifest = (FOLDER / "rust-peer" / "Cargo.toml").relative_to(ROOT)
    if given:
        return Binary(label, missing=f"OCKAM_PEER={given} cannot be run")
    build = f"cargo build --release --locked --manifest-path {manifest}"
    return Binary(label, missing=f"no Rust peer: run `make interop` or `{build}`, or set OCKAM_PEER")


def release_of(printed: str) -> tuple[int, ...]:
    """The release in what `ockam --version` prints; some releases colour it even without a terminal."""
    found = re.search(r"(\d+)\.(\d+)\.(\d+)", re.sub(r"\x1b\[[\d;]*m", "", printed))
    return tuple(map(int, found.groups())) if found else ()


def ockam_binaries() -> list[Binary]:
    """Every binary of OCKAM, else the one on PATH, by release."""
    given = os.environ.get("OCKAM")
    found = given.split(os.pathsep) if given else list(filter(None, [shutil.which("ockam")]))
    how = "install Ockam's command (https://docs.ockam.io) or set OCKAM to its binaries, separated by `:`"
    binaries = []
    for path in found:
        try:
            with_home = plain_environment() | OckamCommand.SERVICES
            printed = run([str(Path(path).resolve()), "--version"], with_home, 10).stdout
        except OSError as error:
            binaries.append(Binary(f"ockam {path}", missing=f"OCKAM={path}: {error.strerror}"))
            continue
        label = f"ockam {'.'.join(map(str, release_of(printed))) or 'of unknown release'}"
        binaries.append(Binary(label, str(Path(path).resolve())))
    return binaries or [Binary("ockam", missing=f"no `ockam` command: {how}")]


BINARIES = [peer_binary(), *ockam_binaries()]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """A test that asks for `rust` runs with each program; one that asks for `rust_peer` with ours only."""
    for name, binaries in (("rust", BINARIES), ("rust_peer", BINARIES[:1])):
        if name in metafunc.fixturenames:
            values = [
                pytest.param(
                    binary,
                    id=binary.label.replace(" ", "-"),
                    marks=[pytest.mark.skip(reason=binary.missing)] if binary.missing else [],
                )
                for binary in binaries
            ]
            metafunc.parametrize(name, values, indirect=True, scope="module")


# --- fixtures -------------------------------------------------------------------------------------

PROGRAMS = pytest.StashKey[Programs]()
RESULTS = pytest.StashKey[dict[tuple[str, str], dict[str, str]]]()


@pytest.fixture(scope="session")
def programs(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Programs]:
    """The processes of the run."""
    started = Programs(tmp_path_factory.mktemp("logs"))
    request.config.stash[PROGRAMS] = started
    yield started
    started.stop_since(0)


@pytest.fixture(scope="module", autouse=True)
def _programs_of_the_module(programs: Programs) -> Iterator[None]:
    mark = programs.mark()
    yield
    programs.stop_since(mark)


@pytest.fixture(autouse=True)
def _programs_of_the_test(programs: Programs, _programs_of_the_module: None) -> Iterator[None]:
    # Fixtures of the module are set up before this one; one asked for by name in a test would end with it.
    mark = programs.mark()
    yield
    programs.stop_since(mark)


@pytest.fixture(scope="module")
def ours(programs: Programs, tmp_path_factory: pytest.TempPathFactory) -> Ockamlite:
    """The command under test, with a state folder for the module."""
    return Ockamlite(tmp_path_factory.mktemp("home") / "ours", programs)


@pytest.fixture
def newcomer(programs: Programs, tmp_path: Path) -> Ockamlite:
    """The command under test on another machine: a fresh state folder."""
    return Ockamlite(tmp_path / "home", programs)


@pytest.fixture(scope="module")
def rust(
    request: pytest.FixtureRequest, programs: Programs, tmp_path_factory: pytest.TempPathFactory
) -> Rust:
    """A Rust implementation, with a home for the module."""
    binary: Binary = request.param
    if binary.is_peer:
        return RustPeer(binary.path, programs)
    return OckamCommand(binary.path, tmp_path_factory.mktemp("ockam"), programs)


@pytest.fixture(scope="module")
def rust_peer(request: pytest.FixtureRequest, programs: Programs) -> RustPeer:
    """Our own Rust program, where a test needs more than every release can do."""
    return RustPeer(request.param.path, programs)


@pytest.fixture(scope="module")
def rust_node(rust: Rust, target: str, _programs_of_the_module: None) -> Place:
    """A Rust node open to all, with an outlet to the service."""
    return rust.node(target=target)


@pytest.fixture(scope="module")
def our_node(ours: Ockamlite, _programs_of_the_module: None) -> Place:
    """An `ockamlite` node open to all."""
    return ours.listening("node", "--trust-everyone", "--insecure")[1]


@pytest.fixture(scope="session")
def place() -> type[Place]:
    """To name a place from what a ready line said."""
    return Place


@pytest.fixture
def example(programs: Programs) -> Callable[..., Program]:
    """Start one of the programs in `examples/`; skip where it is not there yet."""

    def start(name: str, *words: str) -> Program:
        path = ROOT / "examples" / f"{name}.py"
        if not path.exists():
            pytest.skip(f"examples/{name}.py is not there")
        env = plain_environment() | {"PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}
        return programs.start(f"example-{name}", [sys.executable, str(path), *words], env)

    return start


@pytest.fixture
def free_port() -> int:
    """A port for a program that cannot be told 0; free a moment ago."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
        return port


@pytest.fixture(scope="session")
def refused() -> type[RefusedError]:
    """What a Rust client raises that gets no answer."""
    return RefusedError


# --- the service behind the portals, and its users ------------------------------------------------


class _Service(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def _answer(self, body: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self) -> None:
        self._answer(BLOB if self.path == "/blob" else self.path.encode())

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self._answer(hashlib.sha256(body).hexdigest().encode())

    def do_ECHO(self) -> None:
        """From here on the connection is not HTTP: every byte comes back at once."""
        self.close_connection = True
        while chunk := self.rfile.read1(65536):
            self.connection.sendall(chunk)

    def log_message(self, *_: object) -> None:
        """Not in the test's output."""


class _Server(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_: object) -> None:
        """A client that leaves early is no news."""


@pytest.fixture(scope="session")
def target() -> Iterator[str]:
    """HOST:PORT of a web service (GET, POST, and ECHO that turns a connection into a TCP echo)."""
    with _Server((HOST, 0), _Service) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        yield f"{HOST}:{server.server_address[1]}"
        server.shutdown()
        thread.join(5)


class PortalUser:
    """What an application does with the local end of a portal."""

    def exchange(self, port: int) -> None:
        """10 MiB there and back on one connection, both directions busy at once."""
        with socket.create_connection((HOST, port), timeout=RUN_S) as client:
            sender = threading.Thread(target=self._send, args=(client,), daemon=True)
            sender.start()
            received = hashlib.sha256()
            left = len(BLOB)
            while left:
                chunk = client.recv(65536)
                assert chunk, f"closed with {left} of {len(BLOB)} bytes outstanding"
                received.update(chunk)
                left -= len(chunk)
            sender.join(5)
        assert received.hexdigest() == BLOB_SHA256

    @staticmethod
    def _send(client: socket.socket) -> None:
        with contextlib.suppress(OSError):
            client.sendall(b"ECHO / HTTP/1.1\r\nHost: service\r\n\r\n")
            client.sendall(BLOB)

    def curl(self, port: int, folder: Path) -> None:
        """10 MiB down, 10 MiB up, with a real HTTP client."""
        if shutil.which("curl") is None:
            pytest.skip("curl is not installed")
        blob, fetched = folder / "blob", folder / "fetched"
        blob.write_bytes(BLOB)
        base = ["curl", "--silent", "--show-error", "--fail", "--noproxy", "*", "--max-time", "30"]
        url = f"http://{HOST}:{port}"
        down = run([*base, "--output", str(fetched), f"{url}/blob"], plain_environment(), 40)
        assert down.returncode == 0, story(down)
        assert hashlib.sha256(fetched.read_bytes()).hexdigest() == BLOB_SHA256
        up = run([*base, "--data-binary", f"@{blob}", f"{url}/digest"], plain_environment(), 40)
        assert (up.returncode, up.stdout) == (0, BLOB_SHA256), story(up)

    def chat(self, port: int, rounds: int) -> None:
        """Questions and answers on one connection, each a message of its own."""
        client = http.client.HTTPConnection(HOST, port, timeout=RUN_S)
        try:
            for number in range(rounds):
                client.request("GET", f"/{number}")
                assert client.getresponse().read() == f"/{number}".encode()
        finally:
            client.close()

    def chat_while_another_closes(self, port: int) -> None:
        """A connection that ends in the middle of an answer takes nothing else with it."""
        lasting = http.client.HTTPConnection(HOST, port, timeout=RUN_S)
        try:
            lasting.request("GET", "/before")
            assert lasting.getresponse().read() == b"/before"
            with socket.create_connection((HOST, port), timeout=RUN_S) as leaving:
                leaving.sendall(b"GET /blob HTTP/1.1\r\nHost: service\r\n\r\n")
                assert leaving.recv(1) == b"H"
            lasting.request("GET", "/after")
            assert lasting.getresponse().read() == b"/after"
        finally:
            lasting.close()


@pytest.fixture(scope="session")
def portal_user() -> PortalUser:
    return PortalUser()


# --- the table ------------------------------------------------------------------------------------

HEADS = ("scenario", "direction")
MARKS = {"passed": "yes", "failed": "**NO**", "skipped": "-"}


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--interop-table", metavar="PATH", default=None, help="write the page of interop results there"
    )


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "proves(scenario, direction): a row of the table of interop results")
    config.stash[RESULTS] = {}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if FOLDER in item.path.parents:
            item.add_marker("interop")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Attach the logs of what runs to a failure; note the result for the table."""
    report = yield
    config = item.config
    if report.failed and PROGRAMS in config.stash:
        for name, log in config.stash[PROGRAMS].logs():
            report.sections.append((f"log of {name}", log))
    row = item.get_closest_marker("proves")
    parameters = getattr(getattr(item, "callspec", None), "params", {})
    binary = parameters.get("rust") or parameters.get("rust_peer")
    if row and binary and (report.when == "call" or report.outcome != "passed"):
        cells = config.stash[RESULTS].setdefault(row.args, {})
        worst = max(
            (cells.get(binary.label, "skipped"), report.outcome), key=("skipped", "passed", "failed").index
        )
        cells[binary.label] = worst
    return report


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    results = config.stash.get(RESULTS, {})
    if not results:
        return
    rows = [HEADS + tuple(binary.label for binary in BINARIES)]
    for row, cells in results.items():
        rows.append(row + tuple(MARKS[cells.get(binary.label, "skipped")] for binary in BINARIES))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["| " + " | ".join(map(str.ljust, row, widths)) + " |" for row in rows]
    lines.insert(1, "| " + " | ".join("-" * width for width in widths) + " |")
    terminalreporter.section("interop with Ockam's Rust implementation")
    for line in lines:
        terminalreporter.write_line(line)
    page = config.getoption("--interop-table", default=None) or os.environ.get("INTEROP_TABLE")
    if page:
        Path(page).write_text(interop_page(lines))
        terminalreporter.write_line(f"written: {page}")


def interop_page(table: list[str]) -> str:
    """The page of the documentation that says what was run and what came out."""
    version = re.search(r'__version__.*"(.+)"', (ROOT / "ockamlite" / "_version.py").read_text())
    today = datetime.datetime.now(datetime.UTC).date().isoformat()
    programs = ", ".join(binary.label for binary in BINARIES if binary.path)
    return f"""# Interop with Ockam's Rust implementation

This page is written by the tests in `tests/interop/`; do not edit it. To run them: `make interop`, or

    OCKAM_PEER=… OCKAM=…:… python -m pytest tests/interop --interop-table docs/interop.md

Last run: {today}, ockamlite {version.group(1) if version else "?"}, Python {platform.python_version()}, \
{platform.system()} {platform.machine()}.

Against: {programs or "nothing"}. `ockam` is Ockam's own command, as released; `ockam-peer` is the small
program of `tests/interop/rust-peer/` on the public API of the crate `ockam`.

Each cell is one or more tests between separate processes on loopback: the `ockamlite` command on one side,
the Rust program on the other. *yes*: passed; **NO**: failed; -: not run, because the program is not there or
cannot do it.

{chr(10).join(table)}
"""
