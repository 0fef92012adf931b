"""What docs/boards.md shows is what happens: its commands are typed here, its Python is run."""

from __future__ import annotations

import asyncio
import os
import re
import shlex
import socket
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from ockamlite.cli.run.auto import choose_port
from ockamlite.routing.endpoint import Endpoint

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/boards.md").read_text()
FENCE = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
PROMPT = re.compile(r"(\w+)\$ (.*)")
BLOCKS = {code.partition("$")[0]: code for language, code in FENCE.findall(PAGE) if language == "console"}


def like(shown: str, printed: str) -> bool:
    """True if a line is as the page shows it; … stands for anything, and identifiers differ."""
    shown = re.sub(r"I[0-9a-f]{4}…", "I…", shown)
    return re.fullmatch(".*".join(map(re.escape, shown.split("…"))), printed) is not None


class Shells:
    """The shells of a block, in one folder, each with an environment of its own."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._environments: dict[str, dict[str, str]] = {}
        self._running: list[asyncio.subprocess.Process] = []
        self._exported = ""

    async def type(self, shell: str, command: str, shown: list[str]) -> None:
        environment = self._environments.setdefault(shell, self._fresh(shell))
        if command.startswith("export "):
            # What another shell was told to paste.
            name, _, value = self._exported.removeprefix("export ").partition("=")
            assert like(command, self._exported)
            environment[name] = shlex.split(value)[0]
            return
        process = await asyncio.create_subprocess_exec(
            *shlex.split(command), cwd=self._folder, env=environment, stdout=asyncio.subprocess.PIPE
        )
        self._running.append(process)
        assert process.stdout is not None
        for line in shown:
            async with asyncio.timeout(20):
                printed = (await process.stdout.readline()).decode().rstrip("\n")
            assert like(line, printed), (command, printed)
            if printed.startswith("export "):
                self._exported = printed
        if not shown[0].startswith("ready: "):
            assert await process.wait() == 0

    async def stop(self) -> None:
        for process in reversed(self._running):
            if process.returncode is None:
                process.terminate()
            async with asyncio.timeout(10):
                assert await process.wait() == 0

    def _fresh(self, shell: str) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith("OCKAMLITE_")}
        kept["PATH"] = f"{Path(sys.executable).parent}:{kept['PATH']}"
        return kept | {"OCKAMLITE_HOME": str(self._folder / shell)}


@pytest.fixture
async def shells(tmp_path: Path) -> AsyncIterator[Shells]:
    made = Shells(tmp_path)
    yield made
    await made.stop()


def typed(block: str) -> list[tuple[str, str, list[str]]]:
    found: list[tuple[str, str, list[str]]] = []
    for line in block.splitlines():
        if prompt := PROMPT.fullmatch(line):
            found.append((prompt[1], prompt[2], []))
        else:
            found[-1][2].append(line)
    return found


@pytest.fixture
def pi(tmp_path: Path) -> Path:
    """The board of the page, as files."""
    home = "sys/devices/platform/soc/ttyS0.serial"
    for path, content in {
        "proc/device-tree/compatible": "raspberrypi,model-zero-2-w\0brcm,bcm2837\0",
        "proc/device-tree/model": "Raspberry Pi Zero 2 W Rev 1.0\0",
        "proc/sys/kernel/hostname": "pi\n",
        "proc/321/comm": "agetty\n",
        "proc/321/cmdline": "agetty\0ttyS0\0",
        "proc/600/comm": "bluetoothd\n",
        "sys/class/bluetooth/hci0/type": "primary\n",
        f"{home}/tty/ttyS0/type": "4\n",
        "dev/ttyS0": "",
    }.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(content)
    (tmp_path / "dev/serial0").symlink_to("ttyS0")
    (tmp_path / home / "tty/ttyS0/device").symlink_to("../..")
    (tmp_path / "sys/class/tty").mkdir(parents=True)
    (tmp_path / "sys/class/tty/ttyS0").symlink_to("../../devices/platform/soc/ttyS0.serial/tty/ttyS0")
    return tmp_path


def test_every_block_is_run_here() -> None:
    assert [language for language, _ in FENCE.findall(PAGE)].count("python") == 1
    assert BLOCKS.keys() == {"pi", "emulation", "gateway"}


async def test_the_board_of_the_page_is_recognised(shells: Shells, pi: Path) -> None:
    ((shell, command, shown),) = typed(BLOCKS["pi"])
    assert shown[-1] == "…"
    await shells.type(shell, f"{command} --root {pi}", shown[:-1])


def test_its_port_is_what_the_page_says(pi: Path) -> None:
    (pi / "proc/321/cmdline").write_text("sleep\0")
    (pi / "proc/321/comm").write_text("sleep\n")
    chosen = choose_port(Endpoint.parse("serial:auto"), pi)
    assert f"is ready as `{chosen}`" in PAGE


async def test_lines_and_an_air_are_used_as_the_page_shows(shells: Shells) -> None:
    for shell, command, shown in typed(BLOCKS["emulation"]):
        await shells.type(shell, command, shown)


async def test_the_python_of_the_page_prints_what_comes_back(tmp_path: Path) -> None:
    (code,) = (code for language, code in FENCE.findall(PAGE) if language == "python")
    program = await asyncio.create_subprocess_exec(
        sys.executable, "-c", code, stdout=asyncio.subprocess.PIPE, cwd=ROOT
    )
    printed, _ = await program.communicate()
    assert printed == b"serial hello\nble hello\n"


@pytest.mark.skipif(find_spec("zeroconf") is None, reason="pip install 'ockamlite[mdns]'")
async def test_a_gateway_announces_itself_as_the_page_shows(
    shells: Shells, free_port: Callable[[], int]
) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("224.0.0.251", 5353))
        except OSError as error:
            pytest.skip(f"no network for multicast here: {error}")
        address: str = probe.getsockname()[0]
    names = {"4000": str(free_port()), "gateway": f"gateway-{os.getpid()}"}
    here = names | {"0.0.0.0": address, "192.0.2.7": address}
    block = BLOCKS["gateway"]
    for shown, is_here in here.items():
        block = block.replace(shown, is_here)
    for shell, command, lines in typed(block.replace(f"{here['gateway']}$", "gateway$")):
        await shells.type(shell, command, lines)


def test_a_link_to_a_file_leads_somewhere() -> None:
    for target in re.findall(r"\]\(([^)#:]+)\)", PAGE):
        assert (ROOT / "docs" / target).exists(), target
