"""The machine: QEMU run to its end, and what it says meanwhile."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from ockamlite.errors import UnavailableError

if TYPE_CHECKING:
    from collections.abc import Callable

QEMU: Final = "qemu-system-x86_64"
_KVM: Final = Path("/dev/kvm")
_PROBE_S: Final = 15.0
_MEMORY_MIB: Final = 1536
PATIENCE: Final = {"kvm": 1, "tcg": 3}
"""How much longer everything may take."""


def check_qemu() -> None:
    """See that there is QEMU.

    Raises:
        UnavailableError: it is not installed.
    """
    if shutil.which(QEMU) is None:
        raise UnavailableError(f"{QEMU} is not installed", hint="sudo apt install qemu-system-x86")


async def best_accelerator(kernel: Path) -> str:
    """``kvm`` if a kernel comes to its end with it, else ``tcg``, which is much slower.

    That the device opens says little: within another machine it may be there and not work.
    """
    if not os.access(_KVM, os.R_OK | os.W_OK):
        return "tcg"
    process = await asyncio.create_subprocess_exec(
        *_command("kvm", kernel, "panic=-1"),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        async with asyncio.timeout(_PROBE_S):
            return "kvm" if await process.wait() == 0 else "tcg"
    except TimeoutError:
        return "tcg"
    finally:
        await _end(process)


async def run(
    kernel: Path,
    image: Path,
    console: Path,
    *,
    accelerator: str,
    arguments: str,
    limit_s: float,
    heard: Callable[[dict[str, Any]], None],
) -> None:
    """Run the machine until it turns itself off.

    Args:
        kernel: to be booted.
        image: its file system.
        console: file for all that the kernel and the processes say.
        accelerator: ``kvm`` or ``tcg``.
        arguments: for the kernel, and through it for the first process.
        limit_s: after which it is ended.
        heard: told every report of the machine.

    Raises:
        UnavailableError: QEMU fails, or the machine takes too long.
    """
    process = await asyncio.create_subprocess_exec(
        *_command(accelerator, kernel, f"console=ttyS0 panic=-1 {arguments}"),
        "-initrd", str(image), "-serial", f"file:{console}", "-serial", "stdio",
        stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stderr is not None
    try:
        async with asyncio.timeout(limit_s):
            async for line in process.stdout:
                try:
                    report = json.loads(line)
                except ValueError:
                    continue
                if isinstance(report, dict):
                    heard(report)
            said = (await process.stderr.read()).decode(errors="replace").strip()
            if await process.wait() != 0:
                raise UnavailableError(f"{QEMU} failed: {said}")
    except TimeoutError as error:
        raise UnavailableError(
            f"the machine did not end within {limit_s:.0f} s; it said: {console}"
        ) from error
    finally:
        await _end(process)


def _command(accelerator: str, kernel: Path, arguments: str) -> tuple[str, ...]:
    """QEMU, with what every start of it has."""
    threads, processor = (",thread=multi", "max,la57=off") if accelerator == "tcg" else ("", "host")
    return (
        QEMU, "-accel", accelerator + threads, "-cpu", processor, "-smp", "2", "-m", str(_MEMORY_MIB),
        "-nodefaults", "-display", "none", "-no-reboot", "-kernel", str(kernel), "-append", arguments,
    )  # fmt: skip


async def _end(process: asyncio.subprocess.Process) -> None:
    if process.returncode is None:
        process.kill()
        await process.wait()
