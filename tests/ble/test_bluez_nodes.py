"""What goes wrong with adapters and bluetoothd, as a portal between two nodes sees it.

bleak's stock backend and our peripheral run unmodified on a fake bluetoothd. Connections that were under way
end with an error and never with wrong bytes, both nodes say why, and the next ones work.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from boards.emulation.fake_bluez import is_possible
from ockamlite.events import LinkDown
from ockamlite.identities.local import LocalIdentity
from ockamlite.limits import LIMITS
from ockamlite.node import Node
from ockamlite.secure_channels.trust import TrustEveryone, TrustIdentifiers
from transports.ble import BleTransport
from transports.ble.queued import GONE

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

pytestmark = pytest.mark.skipif(not is_possible(), reason="needs dbus-daemon: sudo apt install dbus-daemon")


class Portal:
    """An inlet on a laptop (hci1) whose outlet is on a device (hci0), and a website behind it."""

    def __init__(self, machine: Any, website: Any) -> None:
        self.machine = machine
        self.website = website
        self.reasons: dict[str, list[str]] = {"pi": [], "laptop": []}
        """Why links of each node ended."""

    def node(self, name: str) -> Node:
        def noted(event: object) -> None:
            if isinstance(event, LinkDown):
                self.reasons[name].append(event.reason)

        return Node(
            identity=LocalIdentity.ephemeral(1_700_000_000), transports=[BleTransport(LIMITS)], on_event=noted
        )

    async def open(self, pi: Node, laptop: Node) -> None:
        listener = await pi.listen("ble:pi?adapter=hci0")
        channels = pi.secure_channel_listener(trust=TrustEveryone())
        pi.open(channels.address, listener)
        pi.open(pi.outlet(f"tcp:127.0.0.1:{self.website.port}").address, channels)
        self.path = laptop.path(
            "ble:pi?adapter=hci1,secure:secure_channel_listener,outlet",
            trust=TrustIdentifiers(pi.identity.identifier),
        )
        self.inlet = await laptop.inlet("tcp:127.0.0.1:0", self.path)
        await self.path.wait(10)

    async def fetch_until(self, fault: Callable[[], Any]) -> bytes:
        """Fetch the page, with a fault once the first of it has come; what came of it in all."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.inlet.port)
        writer.write(b"GET / HTTP/1.0\r\n\r\n")
        got = await reader.readexactly(1000)
        done = fault()
        if done is not None:
            await done
        try:
            while more := await reader.read(65536):
                got += more
        except ConnectionError:
            pass
        writer.close()
        return got

    async def works(self) -> None:
        """The next connection brings the page."""
        async with asyncio.timeout(30):
            await self.path.wait(30)
            assert await self.website.fetch(self.inlet.port) == self.website.page


@pytest.fixture
async def portal(machine: Any, website: Any) -> AsyncIterator[Portal]:
    website.page = website.page * 6  # long enough to be interrupted
    made = Portal(machine, website)
    async with made.node("pi") as pi, made.node("laptop") as laptop:
        await made.open(pi, laptop)
        yield made


FAULTS: dict[str, tuple[Callable[[Any], Any], Callable[[Any], Any], set[str]]] = {
    "the device's adapter pulled out": (
        lambda machine: machine.daemon.pull("hci0"),
        lambda machine: machine.daemon.plug("hci0"),
        {"the Bluetooth adapter was removed", GONE},
    ),
    "the laptop's adapter pulled out": (
        lambda machine: machine.daemon.pull("hci1"),
        lambda machine: machine.daemon.plug("hci1"),
        {GONE},
    ),
    "the device's adapter turned off": (
        lambda machine: machine.daemon.power("hci0", on=False),
        lambda machine: machine.daemon.power("hci0", on=True),
        {"the Bluetooth adapter was turned off", GONE},
    ),
    "bluetoothd restarted": (
        lambda machine: machine.daemon.stop(),
        lambda machine: machine.daemon.start(),
        {"bluetoothd ended", GONE},
    ),
    "a disconnect": (
        lambda machine: machine.air.disconnect(*machine.addresses()),
        lambda machine: None,
        {GONE},
    ),
}


@pytest.mark.parametrize(("fault", "mend", "reasons"), FAULTS.values(), ids=FAULTS.keys())
async def test_a_fault_ends_what_is_under_way_with_why_and_the_next_connection_works(
    portal: Portal, fault: Callable[[Any], Any], mend: Callable[[Any], Any], reasons: set[str]
) -> None:
    await portal.works()
    got = await portal.fetch_until(lambda: fault(portal.machine))
    assert len(got) < len(portal.website.page)
    assert portal.website.page.startswith(got)
    done: Awaitable[None] | None = mend(portal.machine)
    if done is not None:
        await done
    await portal.works()
    assert len(portal.reasons["laptop"]) == len(portal.reasons["pi"]) == 1
    for ended in portal.reasons.values():
        assert ended[0] in reasons


async def test_storms_of_in_progress_delay_a_portal_and_change_nothing(portal: Portal) -> None:
    for _ in range(2):
        portal.machine.daemon.faults.busy_writes = 50
        assert await portal.website.fetch(portal.inlet.port) == portal.website.page
        assert portal.machine.daemon.faults.busy_writes == 0
    assert portal.reasons == {"pi": [], "laptop": []}
