"""What the checks work on: an outlet that listens at ``ble:cabinet``, inlets that dial it, the daemons."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Final

from tests.ble.qemu.guest.commands import Command, transfer

if TYPE_CHECKING:
    from tests.ble.qemu.guest.commands import Service
    from tests.ble.qemu.guest.services import Daemon, Services

NAME: Final = "cabinet"
ADAPTERS: Final = ("hci0", "hci1", "hci2")
LISTENER, DIALLER, SECOND = ADAPTERS
ALL_ON: Final = dict.fromkeys(ADAPTERS, True)
_AGAIN_S: Final = 0.5
_SMALL: Final = 3000


class World:
    """The commands that run, and what they stand on."""

    def __init__(self, services: Services, daemon: Daemon, service: Service, patience: float) -> None:
        self.services = services
        self.daemon = daemon
        self.patience = patience
        self._service = service
        self._outlet: Command | None = None
        self._inlets: dict[str, Command] = {}

    async def outlet(self) -> Command:
        """The outlet, started if it does not run."""
        if self._outlet is None or not self._outlet.runs:
            self._outlet = await Command.start(
                "outlet", f"tcp:127.0.0.1:{self._service.port}",
                "--listen", f"ble:{NAME}?adapter={LISTENER}", "--trust-everyone", "--ephemeral",
            )  # fmt: skip
            await self._outlet.wait("ready")
        return self._outlet

    async def inlet(self, adapter: str = DIALLER) -> Command:
        """The inlet that dials with an adapter, started if it does not run."""
        await self.outlet()
        found = self._inlets.get(adapter)
        if found is None or not found.runs:
            found = self._inlets[adapter] = await Command.start(
                "inlet", "tcp:127.0.0.1:0",
                "--via", f"ble:{NAME}?adapter={adapter}", "--trust-everyone", "--ephemeral",
            )  # fmt: skip
            await found.wait("ready")
        return found

    async def port(self, adapter: str = DIALLER) -> int:
        """The port of an inlet."""
        ready = await (await self.inlet(adapter)).wait("ready")
        return int(ready["listening"][0].rpartition(":")[2])

    async def works(self, adapter: str = DIALLER) -> float:
        """Wait until a transfer succeeds; returns the seconds that took, failed ones included."""
        port = await self.port(adapter)
        begun = time.monotonic()
        while True:
            try:
                await transfer(port, up=_SMALL, down=_SMALL)
            except ConnectionError as error:
                print(f"not yet: {error}; {await self.daemon.devices(adapter)}")
                await asyncio.sleep(_AGAIN_S)
            else:
                return round(time.monotonic() - begun, 1)

    async def begin_anew(self) -> None:
        """End all commands, and see that the daemons are as at first."""
        await self.end()
        try:
            async with asyncio.timeout(30 * self.patience):
                on = await self.daemon.powered()
                for adapter in ADAPTERS:
                    if on.get(adapter) is False:
                        await self.daemon.power(adapter, on=True)
                await self.daemon.wait_powered(ALL_ON)
        except (TimeoutError, AssertionError) as error:
            print(f"the adapters are not as at first: {error}")

    async def end(self) -> None:
        """End the commands."""
        for command in (*self._inlets.values(), self._outlet):
            if command is not None and command.runs:
                try:
                    await command.end()
                except TimeoutError:
                    print("a command had to be killed")
        self._inlets.clear()
        self._outlet = None
