"""The machine's course: each check with its time-out, reported as it ends; others follow a failed one."""

from __future__ import annotations

import asyncio
import json
import os
import platform
import time
import traceback
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.ble.qemu.guest import checks
from tests.ble.qemu.guest.commands import Service
from tests.ble.qemu.guest.services import BLUETOOTHD, Daemon, Services, said_by
from tests.ble.qemu.guest.world import World

if TYPE_CHECKING:
    from collections.abc import Mapping

_START_S = 60.0


def report(**what: Any) -> None:
    """Tell the system that runs this machine."""
    line = json.dumps(what)
    with Path(os.environ["OCKAMLITE_REPORTS"]).open("w") as port:
        port.write(f"{line}\n")
    print(f"report: {line}")


def parameters() -> Mapping[str, str]:
    """Those the kernel was started with that are for us."""
    words = (word.removeprefix("ockamlite.") for word in Path("/proc/cmdline").read_text().split())
    return dict(word.split("=", 1) for word in words if "=" in word)


async def facts() -> None:
    """Say what takes part."""
    report(
        fact="versions",
        kernel=platform.release(),
        bluez=await said_by(BLUETOOTHD, "--version"),
        python=platform.python_version(),
        **{name: version(name) for name in ("bleak", "dbus-fast", "bumble", "ockamlite")},
    )


async def main() -> None:
    """Run all checks, or those that are named."""
    given = parameters()
    patience = float(given.get("patience", "1"))
    wanted = given.get("only", "").split(",") if given.get("only") else []
    services = Services()
    service = Service()
    async with asyncio.timeout(_START_S * patience):
        await services.start(trace=given.get("trace") == "1")
        await service.start()
        world = World(services, await Daemon.connect(), service, patience)
        await facts()
    for check in checks.ALL:
        name = check.__name__.replace("_", " ")
        if wanted and check not in checks.ALWAYS and check.__name__ not in wanted:
            continue
        print(f"check: {name}")
        begun = time.monotonic()
        try:
            async with asyncio.timeout(checks.LIMIT_S * patience):
                detail = await check(world)
        except Exception as error:  # noqa: BLE001  (whatever it is, it is this check's result)
            traceback.print_exc()
            failure = f"{type(error).__name__}: {error}"
            report(check=name, ok=False, seconds=round(time.monotonic() - begun, 1), detail=failure[:400])
            await world.begin_anew()
        else:
            report(check=name, ok=True, seconds=round(time.monotonic() - begun, 1), detail=detail or "")
    await world.end()
    report(end=True)


asyncio.run(main())
