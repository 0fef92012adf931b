"""A board without the board: a program in a process with the limits of its profile, behind emulated links.

    async with emulated("raspberry-pi-zero-2-w") as pi, Node(transports=[pi.ble_transport()]) as laptop:
        link = await laptop.connect(pi.ble)
        await laptop.ask(link.route / "echo", b"hello")

Its serial line is a pair of terminals, its air a socket, both paced by the event loop of whoever emulates
it, in real time. What the limits do and do not show is told in ``docs/boards.md``.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import sys
import tempfile
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from boards.board_limits import BoardLimits, air_model, line_baud
from boards.emulation.air import Air, AirModel
from boards.emulation.air_server import AirServer
from boards.emulation.board_process import BoardFailedError, BoardProcess
from boards.emulation.line import PtyLine
from boards.emulation.uart import QUIET, Noise
from boards.profiles import load
from ockamlite.errors import OckamError, UnavailableError, UsageError
from ockamlite.limits import LIMITS
from ockamlite.routing.endpoint import Endpoint
from transports.ble import AIR_VARIABLE, BleTransport
from transports.ble.air import AirClient
from transports.ble.gatt import check_name

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping, Sequence

    from ockamlite.limits import Limits

FIRST_LINE_S: Final = 30.0
"""How long a program may take to print its first line: a small board's processor is slow."""
_REASON_S: Final = 0.5
"""How long a block that failed waits for the program's end to be known, as the likely reason."""


class EmulatedBoard:
    """A board while it is emulated; see :func:`emulated`.

    Attributes:
        limits: what it is held to.
        name: of its Bluetooth LE advertisement.
        serial: the other end of its serial line, an endpoint to dial or listen at.
        ble: what to dial to reach it by Bluetooth LE on its air; None if it has no adapter.
        air: path of its air's socket, None without: ``OCKAMLITE_AIR`` for commands and other processes.
        first_line: what its program printed first.
    """

    def __init__(self, limits: BoardLimits, name: str, line: PtyLine, air_server: AirServer | None) -> None:
        self.limits = limits
        self.name = name
        self.line = line
        """To unplug, to add noise."""
        self.air_server = air_server
        self.air = None if air_server is None else str(air_server.path)
        own, other = (Endpoint("serial", end, (("baud", str(line.baud)),)) for end in line.devices)
        self.serial = str(other)
        self.ble = None if air_server is None else str(Endpoint("ble", name))
        self.first_line = ""
        self._own_serial = str(own)
        self.process = BoardProcess(name, limits)
        """Its program."""

    def ble_transport(self, limits: Limits = LIMITS) -> BleTransport:
        """The transport of another node on its air, in this process.

        Raises:
            UsageError: the board has no adapter.
        """
        if self.air is None:
            raise UsageError(f"a {self.limits.board} has no Bluetooth LE adapter of its own", hint="its line")
        return BleTransport(limits, AirClient(self.air))

    async def read_line(self) -> str:
        """The next line that its program prints; empty when it has ended."""
        return await self.process.read_line()

    async def start(self, program: Sequence[str], environment: Mapping[str, str]) -> None:
        """Start the program; ``{serial}`` and ``{ble}`` in its arguments are the board's own endpoints."""
        places = {"{serial}": self._own_serial, "{ble}": self.ble or ""}
        await self.process.start([places.get(word, word) for word in program], environment)


@asynccontextmanager
async def emulated(
    profile: str,
    program: Sequence[str] = (),
    *,
    name: str = "",
    baud: int | None = None,
    noise: Noise = QUIET,
    air: AirModel | None = None,
    near: EmulatedBoard | None = None,
    memory_mb: int | None = None,
    cpu_share: float | None = None,
    seed: int = 0,
    environment: Mapping[str, str] | None = None,
) -> AsyncIterator[EmulatedBoard]:
    """A board while the block runs, once its program has printed a line; needs Linux.

    Args:
        profile: which board, as in ``ockamlite board list``.
        program: what ``python`` would be given, ``["app.py", "{serial}"]`` or ``["-m", "ockamlite", …]``;
            ``{serial}`` and ``{ble}`` are the board's own endpoints, to listen at or to dial. If absent a
            node that listens at both and lets everybody use its ``echo`` and ``uppercase``.
        name: under which it advertises; that of the profile if absent.
        baud: of its line; what the profile recommends if absent.
        noise: of its line.
        air: what else its air may do; the adapter is no better than the profile says.
        near: a board on whose air this one is as well; from then on that is no better than both can.
        memory_mb: of the board; the smallest that is sold if absent.
        cpu_share: of one core of this machine; the profile's if absent.
        seed: of all chance.
        environment: added to that of the program.

    Raises:
        NotFoundError: there is no such board.
        UsageError: the board cannot do what is wanted of it.
        UnavailableError: this is not Linux.
        BoardFailedError: the program could not begin, or ended badly; also raised out of the block.
    """
    if sys.platform != "linux":
        raise UnavailableError("boards are emulated with what Linux can do, and this is none")
    limits = _limits(BoardLimits.of(load(profile)), memory_mb, cpu_share)
    name = check_name(name or profile)
    speed = line_baud([limits], baud)
    if near is not None and air is not None:
        raise UsageError("a board near another one is on its air: air= is for boards with their own")
    server = None if near is None else _shared_air(limits, near)
    async with AsyncExitStack() as stack:
        folder = Path(tempfile.mkdtemp(prefix="ockamlite-"))
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        line = PtyLine((folder / "board", folder / "line"), baud=speed, noise=noise, seed=seed)
        await stack.enter_async_context(line)
        if server is None and limits.air is not None:
            model = air_model([limits], air or AirModel())
            server = await stack.enter_async_context(AirServer(Air(model, seed=seed), folder / "air"))
        board = EmulatedBoard(limits, name, line, server)
        stack.push_async_callback(board.process.stop)
        await board.start(
            program or _echoing(with_ble=server is not None), _environment(folder, server, environment)
        )
        async with _failing_with(board):
            board.first_line = await board.process.first_line(FIRST_LINE_S)
            yield board


@asynccontextmanager
async def _failing_with(board: EmulatedBoard) -> AsyncIterator[None]:
    """End the block as soon as the board's program fails, with the reason."""
    try:
        async with asyncio.TaskGroup() as group:
            watching = group.create_task(board.process.watch(), name=f"watch {board.name}")
            try:
                yield
            except OckamError:
                # A link that broke may be all that is seen of a program that ended.
                await asyncio.wait((watching,), timeout=_REASON_S)
                raise
            watching.cancel()
    except BaseExceptionGroup as several:
        failed = [error for error in several.exceptions if isinstance(error, BoardFailedError)]
        others = [error for error in several.exceptions if error not in failed]
        if failed:
            raise failed[0] from (others[0] if others else None)
        raise others[0] from others[0].__cause__


def _limits(found: BoardLimits, memory_mb: int | None, cpu_share: float | None) -> BoardLimits:
    if memory_mb is not None:
        if memory_mb < 1:
            raise UsageError(f"a board with {memory_mb} MB of memory runs nothing")
        found = replace(found, memory_mb=memory_mb)
    if cpu_share is not None:
        if not 0 < cpu_share <= 1:
            raise UsageError(f"cpu_share={cpu_share:g} is no part of a core", hint="above 0, 1 at most")
        found = replace(found, cpu_share=cpu_share)
    return found


def _shared_air(limits: BoardLimits, near: EmulatedBoard) -> AirServer:
    """The air of another board, from now on no better than both can."""
    server = near.air_server
    if server is None:
        raise UsageError(f"a {near.limits.board} has no Bluetooth LE adapter of its own", hint="its line")
    server.air.model = air_model([limits], server.air.model)
    return server


def _echoing(*, with_ble: bool) -> list[str]:
    """The program of a board of which nothing else is wanted."""
    ways = ["--listen", "{serial}", *(["--listen", "{ble}"] if with_ble else [])]
    return ["-m", "ockamlite", "node", *ways, "--trust-everyone", "--insecure"]


def _environment(folder: Path, server: AirServer | None, more: Mapping[str, str] | None) -> dict[str, str]:
    """What the program finds: our packages, a state of its own, its air, and nothing of ours else."""
    found = {key: value for key, value in os.environ.items() if not key.startswith("OCKAMLITE_")}
    ours = str(Path(__file__).parents[1])
    found["PYTHONPATH"] = os.pathsep.join(filter(None, (ours, found.get("PYTHONPATH", ""))))
    found["PYTHONUNBUFFERED"] = "1"
    found["OCKAMLITE_HOME"] = str(folder / "state")
    if server is not None:
        found[AIR_VARIABLE] = str(server.path)
    return found | dict(more or {})
