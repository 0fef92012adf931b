"""What ``ockamlite scan`` does: asks each kind of link for its neighbours and shows what they answer."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import click

from boards import neighbours
from boards.machine import Machine
from boards.serial_ports import ports
from ockamlite.cli.run.logs import printable, set_up
from ockamlite.cli.run.loop import run_to_end
from ockamlite.cli.run.output import print_bytes, print_result
from ockamlite.cli.run.serving import transports
from ockamlite.errors import LinkError, LocalError, OckamError, UsageError
from ockamlite.routing.endpoint import Endpoint

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from boards.serial_ports import SerialPort
    from ockamlite.cli.options import Common

_SECONDS: Final = 5.0
_LOOK_S: Final = 0.5
"""How often serial ports are listed again."""
_MOST: Final = 1000
"""Neighbours that are kept: anybody on the air or the network can make some up."""


@dataclass(frozen=True, slots=True)
class Found:
    """A neighbour."""

    kind: str
    key: str
    """What tells it from others of its kind."""
    endpoint: str
    facts: Mapping[str, Any]
    """What JSON says of it beside its kind and endpoint."""
    text: str
    """The same for people."""


Tell: TypeAlias = Callable[[Found], None]
Source: TypeAlias = Callable[[float, Tell], Awaitable[None]]
"""Looks for so many seconds and tells of each neighbour, again if something about it changed."""


@dataclass
class Findings:
    """What was found so far, and which kinds could not look."""

    show: Callable[[Findings, Found], None]
    """Called for each neighbour that is new."""
    found: dict[tuple[str, str], Found] = field(default_factory=dict)
    failed: dict[str, OckamError] = field(default_factory=dict)

    def add(self, new: Found) -> None:
        """Note a neighbour."""
        key = (new.kind, new.key)
        is_new = key not in self.found
        if is_new and len(self.found) >= _MOST:
            return
        self.found[key] = new
        if is_new:
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
            await source(seconds, findings.add)
        except (LinkError, LocalError) as error:
            findings.failed[kind] = error

    try:
        async with asyncio.TaskGroup() as group:
            for kind, source in sources.items():
                group.create_task(ask(kind, source))
    except ExceptionGroup as several:  # stdout takes no more, most likely several times
        raise several.exceptions[0] from None


async def serial(seconds: float, tell: Tell, machine: Machine | None = None) -> None:
    """Tell of the serial ports of this machine, and of those that are plugged in meanwhile."""
    loop = asyncio.get_running_loop()
    end = loop.time() + seconds
    while True:
        for port in await asyncio.to_thread(ports, machine or Machine()):
            tell(_serial_found(port))
        left = end - loop.time()
        if left <= 0:
            return
        await asyncio.sleep(min(_LOOK_S, left))


def _serial_found(port: SerialPort) -> Found:
    facts = {
        "device": port.device,
        "by_id": port.by_id,
        "driver": port.driver,
        "holder": port.user or None,
    }
    about = [port.device, port.driver or "unknown driver"]
    if port.user:
        about.append(f"in use by {port.user}")
    return Found("serial", port.device, str(Endpoint("serial", port.path)), facts, ", ".join(about))


async def ble(seconds: float, tell: Tell) -> None:
    """Tell of Bluetooth LE devices with our service.

    Raises:
        UsageError: no transport that can look for them is installed.
        UnavailableError: there is no adapter, or it is off.
    """
    transport: Any = transports([Endpoint("ble", "*")])[0]
    if not hasattr(transport, "scan"):
        raise UsageError("the transport for ble: cannot look for devices")

    called: dict[str, str] = {}

    def heard(device: Any) -> bool:
        if len(called) < _MOST:
            called.setdefault(device.name, device.address)
        tell(
            ble_found(
                device.name,
                device.address,
                device.rssi,
                by_name=called.get(device.name) == device.address,
            )
        )
        return False

    try:
        async with asyncio.timeout(seconds):
            await transport.scan(heard)
    except TimeoutError:
        pass


def ble_found(name: str, address: str, rssi: int, *, by_name: bool = True) -> Found:
    """What an advertisement says, as a neighbour; ``by_name`` unless another one has the same name."""
    try:
        endpoint = Endpoint("ble", (by_name and name) or address)
    except UsageError:  # a name that no endpoint can have
        endpoint = Endpoint("ble", address)
    facts = {"name": name or None, "address": address, "rssi": rssi}
    return Found("ble", address, str(endpoint), facts, f"{address}, {rssi} dBm")


async def tcp(seconds: float, tell: Tell) -> None:
    """Tell of nodes of this network that announce themselves.

    Raises:
        UsageError: the extra for it is not installed.
        UnavailableError: the network cannot be asked.
    """
    async for node in neighbours.browse(seconds):
        facts = {"name": node.name, "host": node.host, "port": node.port}
        tell(Found("tcp", node.name, str(node.endpoint), facts, node.name))


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
