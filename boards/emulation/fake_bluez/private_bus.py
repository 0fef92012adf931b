"""A D-Bus of our own beside the system's, for a fake of what usually owns names on it."""

from __future__ import annotations

import asyncio
import shutil
from typing import TYPE_CHECKING, Final

from ockamlite.errors import UnavailableError

if TYPE_CHECKING:
    from pathlib import Path

_CONFIG: Final = """<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig>
  <type>system</type>
  <listen>unix:path={socket}</listen>
  <auth>EXTERNAL</auth>
  <policy context="default">
    <allow user="*"/> <allow own="*"/> <allow send_destination="*"/> <allow send_type="signal"/>
    <allow receive_type="method_call"/> <allow receive_type="method_return"/>
    <allow receive_type="error"/> <allow receive_type="signal"/>
  </policy>
</busconfig>
"""
VARIABLE: Final = "DBUS_SYSTEM_BUS_ADDRESS"
"""Names the bus for every process that shall use it."""


def is_possible() -> bool:
    """True if dbus-daemon is installed."""
    return shutil.which("dbus-daemon") is not None


class PrivateBus:
    """A dbus-daemon that lives as long as its ``async with``.

    Args:
        folder: where its socket and configuration go.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.address = f"unix:path={folder / 'bus'}"
        self._process: asyncio.subprocess.Process | None = None

    async def __aenter__(self) -> PrivateBus:
        """Start it.

        Raises:
            UnavailableError: dbus-daemon is not installed, or does not start.
        """
        config = self._folder / "bus.conf"
        config.write_text(_CONFIG.format(socket=self._folder / "bus"))
        try:
            self._process = await asyncio.create_subprocess_exec(
                "dbus-daemon", f"--config-file={config}", "--nofork", "--print-address",
                stdout=asyncio.subprocess.PIPE,
            )  # fmt: skip
        except FileNotFoundError as error:
            raise UnavailableError(
                "dbus-daemon is not installed", hint="sudo apt install dbus-daemon"
            ) from error
        assert self._process.stdout is not None  # noqa: S101  (asked for)
        if not await self._process.stdout.readline():
            raise UnavailableError("dbus-daemon did not start")
        return self

    async def __aexit__(self, *_: object) -> None:
        """End it, and with it every connection to it."""
        if self._process is not None:
            if self._process.returncode is None:
                self._process.terminate()
            await self._process.wait()
