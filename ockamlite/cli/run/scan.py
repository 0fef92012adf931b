"""What ``ockamlite scan`` does: asks each kind of link for its neighbours and shows what they answer."""

from __future__ import annotations

import asyncio
import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeAlias

import click

from boards import neighbours
from boards.machine import Machine
from boards.serial_ports import ports
from ockamlite.cli.run.logs import printable, set_up
from ockamlite.cli.run.loop import run_to_end
from ockamlite.cli.run.output import print_bytes, print_result
from ockamlite.cli.run.serving import transports
from ockamlite.errors import OckamError, UsageError
from ockamlite.routing.endpoint import Endpoint

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping, Sequence

    from ockamlite.cli.options import Common

    Source: TypeAlias = Callable[[float], AsyncIterator["Found"]]

_SECONDS: Final = 5.0
_LOOK_S: Final = 0.5
"""How often serial ports are listed again."""


class Advertiser(Protocol):
    """A Bluetooth LE device with our service, as a transport's ``scan(seconds)`` tells of it."""

    @property
    def name(self) -> str | None:
        """What it calls itself."""

    @property
    def address(self) -> str:
        """Its address on the air."""

    @property
    def rssi(self) -> int | None:
        """How well it is heard, in dBm."""


@dataclass(frozen=True, slots=True)
class Found:
    """A neighbour."""

    endpoint: str
    kind: str
    facts: Mapping[str, Any]
    """What JSON says of it beside ``kind`` and ``endpoint``."""
    text: str
    """The same for people."""


@dataclass
class Findings:
    """What was found so far, and which kinds could not look."""

    show: Callable[[Findings, Found], None]
    """Called for each neighbour that is new."""
    found: dict[str, Found] = field(default_factory=dict)
    failed: dict[str, OckamError] = field(default_factory=dict)

    def add(self, new: Found) -> None:
        """Note a neighbour."""
        known = self.found.get(new.endpoint)
        self.found[new.endpoint] = new
        if known is None:
            self.show(self, new)


def run(common: Common, kinds: Sequence[str], seconds: float | None) -> None:
    """Look for neighbours and print them.

    Raises:
        OckamError: a kind that was asked for by name cannot look.
    """
    set_up(common)
    sources: dict[str, Source] = {"ble": ble, "serial": serial, "tcp": tcp}
    chosen = {kind: sources[kind] for kind in (kinds or sources)}
    how_long = seconds if seconds is not None else 0.0 if chosen.keys() == {"serial"} else _SECONDS
    screen = None if common.json or not sys.stdout.isatty() else _Screen()

    def show(findings: Findings, new: Found) -> None:
        if common.json:
            print_result(common, "", kind=new.kind, **new.facts, endpoint=new.endpoint)
        elif screen is not None:
            screen.draw(_table(findings))

    findings = Findings(show)
    run_to_end(look(chosen, how_long, findings))
    for kind in kinds:
        if kind in findings.failed:
            raise findings.failed[kind]
    for kind, error in findings.failed.items():
        if not common.quiet:
            click.echo(f"{kind}: {error}", err=True)
    if screen is None and not common.json and findings.found:
        print_bytes(_table(findings).encode())


async def look(sources: Mapping[str, Source], seconds: float, findings: Findings) -> None:
    """Ask all sources at once, each for so many seconds."""

    async def ask(kind: str, source: Source) -> None:
        try:
            async for new in source(seconds):
                findings.add(new)
        except OckamError as error:
            findings.failed[kind] = error

    async with asyncio.TaskGroup() as group:
        for kind, source in sources.items():
            group.create_task(ask(kind, source))


async def serial(seconds: float, machine: Machine | None = None) -> AsyncIterator[Found]:
    """The serial ports of this machine, and those that are plugged in meanwhile."""
    loop = asyncio.get_running_loop()
    end = loop.time() + seconds
    while True:
        for port in await asyncio.to_thread(ports, machine or Machine()):
            facts = {
                "device": port.device,
                "by_id": port.by_id,
                "driver": port.driver,
                "holder": port.user or None,
            }
            about = [port.device, port.driver or "unknown driver"]
            about += [f"in use by {port.user}"] if port.user else []
            yield Found(str(Endpoint("serial", port.path)), "serial", facts, ", ".join(about))
        left = end - loop.time()
        if left <= 0:
            return
        await asyncio.sleep(min(_LOOK_S, left))


async def ble(seconds: float) -> AsyncIterator[Found]:
    """Bluetooth LE devices with our service.

    Raises:
        UsageError: no transport that can look for them is installed.
        UnavailableError: there is no adapter, or it is off.
    """
    transport: Any = transports([Endpoint("ble", "scan")])[0]
    if not hasattr(transport, "scan"):
        raise UsageError("the transport for ble: cannot look for devices")
    advertiser: Advertiser
    async for advertiser in transport.scan(seconds):
        name = advertiser.name
        facts = {"name": name, "address": advertiser.address, "rssi": advertiser.rssi}
        heard = f", {advertiser.rssi} dBm" if advertiser.rssi is not None else ""
        endpoint = str(Endpoint("ble", name or advertiser.address))
        yield Found(endpoint, "ble", facts, f"{advertiser.address}{heard}")


async def tcp(seconds: float) -> AsyncIterator[Found]:
    """Nodes of this network that announce themselves.

    Raises:
        UsageError: the extra for it is not installed.
    """
    async for node in neighbours.browse(seconds):
        facts = {"name": node.name, "host": node.host, "port": node.port}
        yield Found(str(node.endpoint), "tcp", facts, node.name)


def _table(findings: Findings) -> str:
    rows = sorted(findings.found.values(), key=lambda found: (found.kind, found.endpoint))
    width = max((len(found.endpoint) for found in rows), default=0)
    return "".join(f"{found.endpoint:{width}}  {printable(found.text)}\n" for found in rows)


class _Screen:
    """A table on a terminal, drawn again over itself."""

    def __init__(self) -> None:
        self._lines = 0

    def draw(self, table: str) -> None:
        """Draw it."""
        up = f"\x1b[{self._lines}F" if self._lines else ""
        print_bytes((up + "".join(f"{line}\x1b[K\n" for line in table.splitlines())).encode())
        self._lines = table.count("\n")
