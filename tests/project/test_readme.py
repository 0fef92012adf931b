"""What README.md and docs/ show is what happens: each block of code is run here.

``console`` blocks are typed into the machines that their prompts name, each with a state of its own, all on
the loopback interface; what they print is compared, with ports and identifiers as the text has them.
"""

from __future__ import annotations

import asyncio
import os
import re
import shlex
import subprocess
import sys
import tomllib
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from shutil import which
from threading import Thread
from typing import TYPE_CHECKING, Any

import pytest

from boards.profiles import all_profiles
from ockamlite.limits import LIMITS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
PROMPT = re.compile(r"(\w*)\$ (.*)")
SHORT = re.compile(r"I[0-9a-f]{4}…")
LONG = re.compile(r"I[0-9a-f]{64}")
PORT = re.compile(r"(?<=:)\d+(?![\d.])")
WEB_PAGE = b"Hello from the Pi!\n"


def blocks(text: str, language: str) -> list[str]:
    return [code for found, code in FENCE.findall(text) if found == language]


@dataclass
class Typed:
    """A line typed at a machine's prompt, and what the text says it prints."""

    machine: str
    command: str
    prints: list[str] = field(default_factory=list)


def console(block: str) -> list[Typed]:
    typed: list[Typed] = []
    for line in block.splitlines():
        if prompt := PROMPT.fullmatch(line):
            typed.append(Typed(machine=prompt[1], command=prompt[2]))
        else:
            typed[-1].prints.append(line)
    return typed


class Machines:
    """The machines of the text, on this one: what they are called, and what that means here."""

    def __init__(self, home: Path, free_port: Callable[[], int], known: dict[str, str]) -> None:
        self._home = home
        self._said = home / "stderr"
        self._free_port = free_port
        self._here = {"relay.example": "127.0.0.1", "0.0.0.0": "127.0.0.1", **known}
        self._identifiers: dict[str, str] = {}
        self._running: list[asyncio.subprocess.Process] = []

    def translate(self, text: str) -> str:
        """Hosts, ports and identifiers of the text, as they are here."""
        for port in PORT.findall(text):
            self._here.setdefault(f":{port}", f":{self._free_port()}")
        text = PORT.sub(lambda found: self._here[f":{found[0]}"][1:], text)
        for name in ("relay.example", "0.0.0.0"):
            text = text.replace(name, self._here[name])
        return SHORT.sub(lambda found: self._identifiers[found[0]], text)

    async def type(self, typed: Typed) -> None:
        """Run a command; what it prints is what the text says."""
        environment = {name: value for name, value in os.environ.items() if not name.startswith("OCKAMLITE_")}
        environment["OCKAMLITE_HOME"] = str(self._home / typed.machine)
        environment["PATH"] = f"{Path(sys.executable).parent}:{environment['PATH']}"
        with self._said.open("ab") as stderr:
            process = await asyncio.create_subprocess_exec(
                *shlex.split(self.translate(typed.command)),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=stderr,
                env=environment,
            )
        self._running.append(process)
        assert process.stdout is not None
        for line in typed.prints:
            async with asyncio.timeout(20):
                printed = (await process.stdout.readline()).decode().rstrip("\n")
            if SHORT.fullmatch(line):
                assert LONG.fullmatch(printed), (typed.command, self._said.read_text())
                self._identifiers[line] = printed
            assert printed == self.translate(line), (typed.command, self._said.read_text())

        if not typed.prints[-1].startswith("ready: "):
            async with asyncio.timeout(20):
                assert await process.wait() == 0, self._said.read_text()

    async def stop(self) -> None:
        """Ctrl-C in each; those that serve end cleanly."""
        for process in reversed(self._running):
            if process.returncode is None:
                process.terminate()
            async with asyncio.timeout(10):
                assert await process.wait() == 0

    async def kill(self) -> None:
        for process in self._running:
            if process.returncode is None:
                process.kill()
            await process.wait()


class WebPage(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(WEB_PAGE)))
        self.end_headers()
        self.wfile.write(WEB_PAGE)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  (its name there)
        pass


@pytest.fixture
def web_port() -> Iterator[int]:
    with HTTPServer(("127.0.0.1", 0), WebPage) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()


def test_every_block_is_of_a_kind_that_is_run_here() -> None:
    for path in (
        ROOT / "README.md",
        ROOT / "SECURITY.md",
        ROOT / "CHANGELOG.md",
        ROOT / "docs/write-a-transport.md",
    ):
        assert {language for language, _ in FENCE.findall(path.read_text())} <= {
            "console",
            "python",
            "text",
            "toml",
        }


@pytest.mark.skipif(which("curl") is None, reason="needs curl")
async def test_the_main_job_prints_what_the_readme_shows(
    tmp_path: Path, free_port: Callable[[], int], web_port: int
) -> None:
    job = [typed for block in blocks(README, "console") for typed in console(block) if typed.machine]
    assert {typed.machine for typed in job} == {"relay", "pi", "laptop"}
    machines = Machines(tmp_path, free_port, {":80": f":{web_port}"})
    try:
        for typed in job:
            await machines.type(typed)
        await machines.stop()
    finally:
        await machines.kill()


@pytest.mark.parametrize(
    ("command", "runs"),
    [
        ("make demo", "/bin/ockamlite demo"),
        ("make test", "/bin/python -m pytest"),
        ("make check", "/bin/python -m mypy"),
        ("make interop", "/bin/python -m pytest tests/interop"),
        ("make bench", "/bin/python -m benchmarks --markdown docs/performance.md"),
        ("make qemu", "/bin/python -m tests.ble.qemu --markdown docs/ble-tiers.md"),
    ],
)
def test_a_make_command_of_the_readme_runs_what_it_says(command: str, runs: str) -> None:
    dry = ["make", "--no-print-directory", "--dry-run", "-C", str(ROOT), *command.split()[1:]]
    printed = subprocess.run(dry, capture_output=True, text=True, check=True).stdout
    assert printed.rstrip().endswith(runs)


def test_the_readme_names_no_other_command_of_this_machine() -> None:
    typed = [
        typed.command for block in blocks(README, "console") for typed in console(block) if not typed.machine
    ]
    assert set(typed) == {"make demo", "make test", "make check", "make interop", "make bench", "make qemu"}


def test_the_python_of_the_readme_is_the_first_example() -> None:
    assert blocks(README, "python") == [(ROOT / "examples/hello.py").read_text()]


async def test_the_transport_of_the_docs_carries_messages(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = (ROOT / "docs/write-a-transport.md").read_text()
    names: dict[str, Any] = {}
    for code in blocks(text, "python"):
        exec(code, names)
    await names["main"](tmp_path / "socket")
    assert capsys.readouterr().out == "over a Unix socket\n"


def test_the_transport_of_the_docs_has_forty_lines_at_most() -> None:
    shown, _ = blocks((ROOT / "docs/write-a-transport.md").read_text(), "python")
    assert len(shown.splitlines()) <= 40


def test_a_transport_that_is_installed_is_found_by_the_command(tmp_path: Path) -> None:
    text = (ROOT / "docs/write-a-transport.md").read_text()
    (tmp_path / "your_package.py").write_text(blocks(text, "python")[0])
    (shown,) = blocks(text, "toml")
    ((group, points),) = tomllib.loads(shown)["project"]["entry-points"].items()
    (installed := tmp_path / "your_package-1.dist-info").mkdir()
    (installed / "METADATA").write_text("Metadata-Version: 2.1\nName: your-package\nVersion: 1\n")
    lines = [f"[{group}]", *(f"{name} = {target}" for name, target in points.items())]
    (installed / "entry_points.txt").write_text("\n".join(lines))
    command = [sys.executable, "-m", "ockamlite"]
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join((str(tmp_path), str(ROOT))),
        "OCKAMLITE_HOME": str(tmp_path / "home"),
    }
    endpoint = f"unix:{tmp_path}/socket"
    with subprocess.Popen(
        [*command, "node", "--listen", endpoint, "--trust-everyone"],
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
    ) as node:
        try:
            assert node.stdout is not None
            assert endpoint in node.stdout.readline()
            sending = [*command, "send", f"{endpoint},echo", "by a transport of yours"]
            sent = subprocess.run(sending, env=environment, capture_output=True, text=True, timeout=30)
        finally:
            node.terminate()
    assert (sent.stdout, sent.returncode) == ("by a transport of yours\n", 0)


def test_the_entry_point_of_the_docs_is_one_that_is_looked_for() -> None:
    (shown,) = blocks((ROOT / "docs/write-a-transport.md").read_text(), "toml")
    ours = tomllib.loads((ROOT / "pyproject.toml").read_text())
    groups = tomllib.loads(shown)["project"]["entry-points"]
    assert groups.keys() <= ours["project"]["entry-points"].keys()
    assert groups.keys() == {"ockamlite.transports"}


BLUETOOTH = {"uart": "built in", "card": "with a card", "coprocessor": "none for Linux", "none": "none"}


def test_the_boards_of_the_readme_are_those_with_a_profile() -> None:
    rows = []
    for board in all_profiles():
        if not board.name.startswith("generic"):
            port, ble = board.uarts[0], BLUETOOTH[board.ble.attached]
            if board.ble.adapter:
                ble += f", packets of {board.ble.packet_bytes} B"
            rows.append(f"| {board.title} | `{port.devices[0]}`, {port.baud:,} Bd | {ble} |")
    table = README.partition("| board | `serial:auto` | `ble:` |\n| --- | --- | --- |\n")[2].partition(
        "\n\n"
    )[0]
    assert table.splitlines() == rows


def test_the_limits_that_the_readme_names_are_those_that_hold() -> None:
    text = " ".join(README.split())
    assert f"reads nothing for {LIMITS.portal_stall_s:.0f} seconds" in text
    assert f"takes nothing is given up after {LIMITS.link_stall_s:.0f} seconds" in text
    assert f"until nothing has moved for {LIMITS.portal_half_closed_s:.0f} seconds" in text
    assert f"| {LIMITS.message_bytes // 2**20} MiB |" in text


@pytest.mark.parametrize("name", ["README.md", "SECURITY.md", "CHANGELOG.md", "docs/write-a-transport.md"])
def test_a_link_to_a_file_leads_somewhere(name: str) -> None:
    page = ROOT / name
    for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text()):
        assert (page.parent / target).exists(), target
