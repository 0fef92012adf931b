"""What ``ockamlite emulate`` does: lines and an air for other processes, until a signal."""

from __future__ import annotations

import os
import shlex
import shutil
import tempfile
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from boards.board_limits import BoardLimits, air_model, line_baud
from boards.emulation.air import Air, AirModel
from boards.emulation.air_server import AirServer
from boards.emulation.line import PtyLine
from boards.emulation.uart import Noise
from boards.profiles import load
from ockamlite.cli.run.logs import iso_time, set_up
from ockamlite.cli.run.loop import serve
from ockamlite.cli.run.output import print_result
from ockamlite.cli.run.serving import for_ever
from ockamlite.errors import AlreadyExistsError, UnavailableError, UsageError
from ockamlite.routing.endpoint import Endpoint

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ockamlite.cli.options import Common

AIR_VARIABLE: Final = "OCKAMLITE_AIR"


@dataclass(frozen=True, slots=True)
class _Wanted:
    """What to emulate."""

    lines: tuple[tuple[str, str], ...]
    ble: bool
    seed: int
    baud: int | None
    noise: Noise
    air: AirModel


def run(
    common: Common,
    *,
    serial: tuple[str, ...],
    ble: bool,
    board: str | None,
    seed: int,
    baud: int | None,
    noise: float,
    loss: float,
    mtu: int,
) -> None:
    """Check the options, then serve until a signal.

    Raises:
        AlreadyExistsError: something else has the name of a device.
        NotFoundError: there is no such board.
        UnavailableError: a device or the air's socket cannot be made.
        UsageError: nothing to emulate, a malformed ``--serial``, or more than the board can do.
    """
    set_up(common)
    if not serial and not ble:
        raise UsageError("nothing to emulate", hint="--serial ./a:./b, --ble, or both")
    lines = tuple(_ends(text) for text in serial)
    _check_free([device for line in lines for device in line])
    wires = Noise(bit_error_ratio=noise, gap_ratio=loss, gap_bytes=1)
    air = AirModel(mtu=mtu, packet_loss=loss)
    if board is not None:
        limits = BoardLimits.of(load(board))
        baud = line_baud([limits], baud) if lines else baud
        air = air_model([limits], air) if ble else air
    serve(_serve(common, _Wanted(lines, ble, seed, baud, wires, air)))


async def _serve(common: Common, wanted: _Wanted) -> None:
    async with AsyncExitStack() as stack:
        for number, line in enumerate(wanted.lines):
            made = PtyLine(
                line, baud=wanted.baud, noise=wanted.noise, seed=wanted.seed * len(wanted.lines) + number
            )
            stack.callback(made.close)
            try:
                await stack.enter_async_context(made)
            except OSError as error:
                raise _unavailable(f"{line[0]}:{line[1]}", error) from error
        environment = {}
        if wanted.ble:
            environment[AIR_VARIABLE] = await _open_air(stack, wanted)
        _print_ready(common, wanted.lines, environment)
        await for_ever()


async def _open_air(stack: AsyncExitStack, wanted: _Wanted) -> str:
    """The socket of a new air."""
    try:
        folder = tempfile.mkdtemp(prefix="ockamlite-")
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        path = Path(folder) / "air"
        await stack.enter_async_context(AirServer(Air(wanted.air, seed=wanted.seed), path))
    except OSError as error:
        raise _unavailable("an air", error) from error
    return str(path)


def _print_ready(common: Common, lines: Sequence[tuple[str, str]], environment: dict[str, str]) -> None:
    what = [f"{Endpoint('serial', a)} - {Endpoint('serial', b)}" for a, b in lines]
    if environment:
        what.append("ble: where this is set")
    text = [f"ready: emulate {', '.join(what)}"]
    text += [f"export {name}={shlex.quote(value)}" for name, value in environment.items()]
    print_result(
        common,
        "\n".join(text),
        event="ready",
        time=iso_time(),
        command="emulate",
        pid=os.getpid(),
        serial=[list(line) for line in lines],
        environment=environment,
    )


def _ends(text: str) -> tuple[str, str]:
    """The two devices of ``--serial``.

    Raises:
        UsageError: not two.
    """
    first, _, second = text.partition(":")
    if not first or not second or ":" in second:
        raise UsageError(f"--serial {text!r}: two devices with a colon between them", hint="--serial ./a:./b")
    return first, second


def _check_free(devices: Sequence[str]) -> None:
    """Refuse to put a device in the place of something.

    Raises:
        AlreadyExistsError: something is there, and no left-over of ours.
        UnavailableError: there is no folder for it.
        UsageError: a device is named twice.
    """
    paths = [os.path.abspath(device) for device in devices]  # noqa: PTH100  (links stay as they are)
    for path in paths:
        if paths.count(path) > 1:
            raise UsageError(f"{path} cannot be the end of two lines")
        folder = os.path.dirname(path)  # noqa: PTH120
        if not Path(folder).is_dir():
            raise UnavailableError(f"cannot emulate {path}: there is no folder {folder}")
        # A link to a terminal that is gone is what is left of one who was killed.
        if os.path.lexists(path) and (not Path(path).is_symlink() or Path(path).exists()):
            raise AlreadyExistsError(
                f"{path} exists already", hint="another name; or remove it, if nobody emulates it any more"
            )


def _unavailable(what: str, error: OSError) -> UnavailableError:
    reason = (error.strerror or str(error)).lower()
    where = f" ({error.filename})" if error.filename else ""
    return UnavailableError(f"cannot emulate {what}: {reason}{where}")
