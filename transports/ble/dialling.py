"""How a device is found and connected to: one attempt at a time per adapter, and with patience.

Adapters do not like to scan while they connect, so every search waits meanwhile. What fails is tried
again after a pause that grows; a device that failed often is left alone for a while.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Final

from ockamlite.errors import UnavailableError
from transports.ble.radio import ConnectFailedError

if TYPE_CHECKING:
    from collections.abc import Callable

    from transports.ble.gatt import Advertisement, Wanted
    from transports.ble.radio import Connection, Radio

logger = logging.getLogger(__name__)

SEARCH_S: Final = 10.0
"""How long a device is looked for; those that advertise do so several times a second."""
ATTEMPT_S: Final = 20.0
WHOLE_S: Final = 60.0
ATTEMPTS: Final = 4
MOST_PAUSE_S: Final = 4.0
REST_S: Final = 5.0
"""How long a device is left alone after all attempts failed."""


class Dialler:
    """Finds and connects for all who use one radio."""

    def __init__(self, radio: Radio, *, search_s: float = SEARCH_S) -> None:
        self._radio = radio
        self._search_s = search_s
        self._turn = asyncio.Lock()
        self._connecting = asyncio.Event()
        self._scanning = 0
        self._silent = asyncio.Event()
        self._silent.set()
        self._free = asyncio.Event()
        self._free.set()
        self._rest_until: dict[str, float] = {}

    async def dial(self, wanted: Wanted) -> Connection:
        """Find ``wanted`` and connect to it.

        Raises:
            RemoteError: it is there, but not one of ours.
            UnavailableError: it cannot be reached; says why.
        """
        loop = asyncio.get_running_loop()
        rest = self._rest_until.pop(wanted.text, 0.0) - loop.time()
        if rest > 0:
            await asyncio.sleep(rest)
        failed: ConnectFailedError | None = None
        try:
            async with asyncio.timeout(WHOLE_S):
                for attempt in range(ATTEMPTS):
                    if failed is not None:
                        await asyncio.sleep(min(max(failed.pause_s, 0.1 * 3**attempt), MOST_PAUSE_S))
                    device = await self._find(wanted)
                    try:
                        return await self._connect(device)
                    except ConnectFailedError as error:
                        logger.debug("connecting to %s failed: %s", device.address, error)
                        failed = error
        except TimeoutError:
            failed = failed or ConnectFailedError(f"not connected within {WHOLE_S:.0f} s")
        self._rest_until[wanted.text] = loop.time() + REST_S
        raise UnavailableError(f"the device is there, but cannot be connected to: {failed}") from failed

    async def _find(self, wanted: Wanted) -> Advertisement:
        found: list[Advertisement] = []

        def heard(device: Advertisement) -> bool:
            if not found and wanted.matches(device):
                found.append(device)
            return bool(found)

        try:
            async with asyncio.timeout(self._search_s):
                while not found:
                    await self._free.wait()
                    await self._scan_until_busy(heard)
        except TimeoutError as error:
            raise UnavailableError(
                f"no device {wanted.text!r} with our service was heard within {self._search_s:g} s",
                hint="is it in range, and does it listen at ble:NAME? see 'ockamlite scan ble'",
            ) from error
        return found[0]

    async def _scan_until_busy(self, heard: Callable[[Advertisement], bool]) -> None:
        """Scan; stop when somebody connects."""
        self._scanning += 1
        self._silent.clear()
        scan = asyncio.ensure_future(self._radio.scan(heard))
        busy = asyncio.ensure_future(self._connecting.wait())
        try:
            await asyncio.wait((scan, busy), return_when=asyncio.FIRST_COMPLETED)
        finally:
            busy.cancel()
            scan.cancel()
            await asyncio.wait((scan, busy))
            self._scanning -= 1
            if not self._scanning:
                self._silent.set()
        if not scan.cancelled():
            scan.result()

    async def _connect(self, device: Advertisement) -> Connection:
        async with self._turn:
            self._free.clear()
            self._connecting.set()
            try:
                await self._silent.wait()
                async with asyncio.timeout(ATTEMPT_S):
                    return await self._radio.connect(device)
            except TimeoutError as error:
                raise ConnectFailedError(f"no connection within {ATTEMPT_S:.0f} s") from error
            finally:
                self._connecting.clear()
                self._free.set()
