"""Emulated boards: a program in a process that has a board's memory, processor, line and air, and no more."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import boards
from boards import BoardFailedError, emulated, emulated_board
from boards.emulation.air import AirModel
from boards.emulation.clock import RealTimeError
from boards.emulation.clock import run as run_virtual
from ockamlite import Node
from ockamlite.errors import NotFoundError, UsageError

ZERO = "raspberry-pi-zero-2-w"

HUNGRY = """
import asyncio, sys
from ockamlite import Node

kept = []

async def eat(context, message):
    try:
        kept.append(bytearray(int(message.text) << 20))
    except MemoryError:
        if CAREFUL:
            await context.reply(message, "no room")
            return
        raise
    await context.reply(message, "eaten")

async def main():
    async with Node() as node:
        links = await node.listen(sys.argv[1])
        node.open(node.start_worker("eater", eat), links)
        print("serving")
        await asyncio.Future()

asyncio.run(main())
"""

SPINNING = """
import time
print("begin")
wall, used = time.monotonic(), time.process_time()
while time.process_time() - used < 0.4:
    pass
print((time.process_time() - used) / (time.monotonic() - wall))
"""


def program(folder: Path, text: str) -> list[str]:
    path = folder / "program.py"
    path.write_text(text)
    return [str(path)]


async def test_a_board_answers_over_its_line_and_its_air() -> None:
    async with emulated(ZERO) as board, Node(transports=[board.ble_transport()]) as laptop:
        assert board.first_line.startswith("ready: node serial:")
        assert board.ble == f"ble:{ZERO}"
        assert board.air_server is not None
        air = board.air_server.air.model
        assert (air.interval_s, air.packets_per_event, air.packet_bytes, air.mtu) == (0.015, 20, 27, 247)
        for endpoint in (board.serial, board.ble):
            link = await laptop.connect(endpoint)
            assert (await laptop.ask(link.route / "echo", b"hello", timeout_s=20)).payload == b"hello"


async def test_its_line_takes_the_time_that_its_port_takes() -> None:
    async with emulated(ZERO, cpu_share=1) as board, Node() as laptop:
        link = await laptop.connect(board.serial)
        began = time.monotonic()
        await laptop.ask(link.route / "echo", bytes(5000), timeout_s=20)
        # No less: what a busy machine adds does no harm.
        assert time.monotonic() - began > 0.9 * 2 * 5000 * 10 / 115_200
        assert board.serial.endswith("?baud=115200")


async def test_a_program_that_asks_for_too_much_memory_is_ended_and_that_is_said(tmp_path: Path) -> None:
    hungry = program(tmp_path, HUNGRY.replace("CAREFUL", "False"))

    async def feed() -> None:
        async with emulated(ZERO, [*hungry, "{serial}"], name="pi", cpu_share=1) as board, Node() as laptop:
            link = await laptop.connect(board.serial)
            assert (await laptop.ask(link.route / "eater", "100", timeout_s=20)).text == "eaten"
            await laptop.ask(link.route / "eater", "450", timeout_s=60)

    with pytest.raises(BoardFailedError) as raised:
        await feed()
    assert str(raised.value) == (
        f"pi (an emulated {ZERO}): its program asked for more than the board's 512 MB of memory"
    )
    assert raised.value.hint


@pytest.mark.parametrize("memory_mb", [1, 4, 24])
async def test_what_needs_more_memory_to_begin_than_there_is_says_so(memory_mb: int) -> None:
    with pytest.raises(BoardFailedError, match=f"more than the board's {memory_mb} MB"):
        async with emulated("beaglebone-black", memory_mb=memory_mb, cpu_share=1):
            pytest.fail("it began")


async def test_a_program_that_copes_with_a_lack_of_memory_goes_on(tmp_path: Path) -> None:
    hungry = program(tmp_path, HUNGRY.replace("CAREFUL", "True"))
    options = {"memory_mb": 200, "cpu_share": 1.0}
    async with emulated(ZERO, [*hungry, "{serial}"], **options) as board, Node() as laptop:  # type: ignore[arg-type]
        link = await laptop.connect(board.serial)
        assert (await laptop.ask(link.route / "eater", "300", timeout_s=20)).text == "no room"
        assert (await laptop.ask(link.route / "eater", "20", timeout_s=20)).text == "eaten"


async def test_a_program_that_never_rests_gets_the_share_of_its_board(tmp_path: Path) -> None:
    async with emulated(ZERO, program(tmp_path, SPINNING), cpu_share=0.2) as board:
        assert board.first_line == "begin"
        assert float(await board.read_line()) < 0.3
        assert await board.read_line() == ""


async def test_why_a_program_ended_is_said_where_one_waits_for_it(tmp_path: Path) -> None:
    failing = program(tmp_path, "print('up'); import sys; sys.exit('the disk is full')")
    with pytest.raises(BoardFailedError, match="its program ended with code 1: the disk is full"):
        async with emulated(ZERO, failing, cpu_share=1):
            await asyncio.sleep(60)


async def test_a_program_that_was_killed_is_not_taken_for_one_without_memory(tmp_path: Path) -> None:
    waiting = program(tmp_path, "import os, time; print(os.getpid(), flush=True); time.sleep(60)")

    async def kill() -> None:
        async with emulated(ZERO, waiting, cpu_share=1) as board:
            os.kill(int(board.first_line), signal.SIGKILL)
            await asyncio.sleep(60)

    with pytest.raises(BoardFailedError, match="its program was ended by signal 9"):
        await kill()


@pytest.mark.parametrize(
    ("text", "said"),
    [("", "ended before it printed a line"), ("import time; time.sleep(60)", "printed no line within 2 s")],
)
async def test_a_program_that_says_nothing_is_not_waited_for_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, said: str
) -> None:
    monkeypatch.setattr(emulated_board, "FIRST_LINE_S", 2.0)
    with pytest.raises(BoardFailedError, match=said):
        async with emulated(ZERO, program(tmp_path, text), cpu_share=1):
            pytest.fail("it began")


async def test_an_error_of_the_block_leaves_it_as_it_was(tmp_path: Path) -> None:
    waiting = program(tmp_path, "print('up'); import time; time.sleep(60)")
    with pytest.raises(ZeroDivisionError):
        async with emulated(ZERO, waiting, cpu_share=1):
            _ = 1 // 0


async def test_nothing_is_left_of_a_board(tmp_path: Path) -> None:
    saying = program(tmp_path, "import os, time; print(os.getpid(), flush=True); time.sleep(60)")
    async with emulated(ZERO, saying, cpu_share=1) as board:
        number, folder = int(board.first_line), Path(str(board.air)).parent
        assert folder.is_dir()
        os.kill(number, 0)
    assert not folder.exists()
    with pytest.raises(ProcessLookupError):
        os.kill(number, 0)


def test_a_board_ends_with_whoever_emulates_it(tmp_path: Path) -> None:
    (waiting,) = program(tmp_path, "import os, time; print(os.getpid(), flush=True); time.sleep(60)")
    emulating = f"""
import asyncio
from boards import emulated
async def main():
    async with emulated({ZERO!r}, [{waiting!r}], cpu_share=1) as board:
        print(board.first_line, flush=True)
        await asyncio.sleep(60)
asyncio.run(main())
"""
    with subprocess.Popen(
        [sys.executable, "-c", emulating],
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"TMPDIR": str(tmp_path)},
    ) as process:
        assert process.stdout is not None
        number = int(process.stdout.readline())
        process.send_signal(signal.SIGKILL)
        deadline = time.monotonic() + 10
        while _runs(number):
            assert time.monotonic() < deadline
            time.sleep(0.02)


def _runs(number: int) -> bool:
    try:
        return Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


async def test_boards_near_each_other_hear_each_other_as_well_as_the_worse_can() -> None:
    echoing = ["-m", "ockamlite", "node", "--trust-everyone", "--insecure", "--listen"]
    async with emulated(ZERO, [*echoing, "{ble}"], name="device", cpu_share=1) as device:
        passing_on = [*echoing, "{serial}", "--forward", "ble"]
        async with (
            emulated("raspberry-pi-5", passing_on, name="gateway", cpu_share=1, near=device) as gateway,
            Node() as laptop,
        ):
            assert gateway.air == device.air
            assert gateway.air_server is not None
            assert gateway.air_server.air.model.packet_bytes == 27
            opened = await laptop.open_hops(f"{gateway.serial},{device.ble}")
            reply = await laptop.ask(opened.route / "echo", b"through both", timeout_s=20)
            assert reply.payload == b"through both"


async def test_what_has_no_adapter_is_near_nothing() -> None:
    async with emulated("beaglebone-black", cpu_share=1) as black:
        with pytest.raises(UsageError, match="a beaglebone-black has no Bluetooth LE adapter"):
            async with emulated(ZERO, near=black):
                pytest.fail("it began")
    async with emulated(ZERO, cpu_share=1) as zero:
        with pytest.raises(UsageError, match="a beaglebone-black has no Bluetooth LE adapter"):
            async with emulated("beaglebone-black", near=zero):
                pytest.fail("it began")
        with pytest.raises(UsageError, match="is on its air"):
            async with emulated(ZERO, near=zero, air=AirModel()):
                pytest.fail("it began")


async def test_a_board_without_bluetooth_has_its_line_alone() -> None:
    async with emulated("beaglebone-black", cpu_share=1) as board, Node() as laptop:
        assert (board.ble, board.air) == (None, None)
        with pytest.raises(UsageError, match="no Bluetooth LE adapter"):
            board.ble_transport()
        link = await laptop.connect(board.serial)
        assert (await laptop.ask(link.route / "echo", b"x", timeout_s=20)).payload == b"x"


@pytest.mark.parametrize(
    ("options", "error", "said"),
    [
        ({"profile": "raspberry-pi-9"}, NotFoundError, "no board"),
        ({"baud": 921_600}, UsageError, "115200 Bd at most"),
        ({"cpu_share": 0}, UsageError, "no part of a core"),
        ({"cpu_share": 1.5}, UsageError, "no part of a core"),
        ({"memory_mb": 0}, UsageError, "runs nothing"),
        ({"name": "x" * 30}, UsageError, "29"),
    ],
)
async def test_what_a_board_cannot_be_is_refused(options: dict[str, object], error: type, said: str) -> None:
    with pytest.raises(error, match=said):
        async with emulated(**{"profile": ZERO, **options}):  # type: ignore[arg-type]
            pytest.fail("it began")


def test_in_virtual_time_there_are_no_processes() -> None:
    async def body() -> None:
        async with emulated("beaglebone-black"):
            pytest.fail("it began")

    with pytest.raises(RealTimeError, match="no socket or terminal under the virtual clock"):
        run_virtual(body())


def test_the_package_offers_it_and_nothing_else() -> None:
    assert boards.emulated is emulated
    with pytest.raises(AttributeError, match="no attribute 'simulated'"):
        _ = boards.simulated  # type: ignore[attr-defined]
