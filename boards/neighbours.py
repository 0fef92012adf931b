"""Nodes of the local network that announce themselves by mDNS (DNS-SD, RFC 6763).

The only module that knows zeroconf, which the extra ``mdns`` brings. Whoever announces a node tells
everybody on the network its name and port; what a neighbour says here proves nothing about who it is.
"""

from __future__ import annotations

import asyncio
import ipaddress
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from ockamlite.errors import UnavailableError, UsageError
from ockamlite.routing.endpoint import Endpoint, HostPort, ip6_text

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

SERVICE: Final = "_ockamlite._tcp.local."
_ASK_S: Final = 2.0
"""How long a neighbour may take to say where it is."""
_MOST: Final = 1000
"""Names that are kept: anybody on the network can make some up."""


@dataclass(frozen=True, slots=True)
class Neighbour:
    """A node that announces itself."""

    name: str
    host: str
    """Its address, IPv4 if it has one."""
    port: int

    @property
    def endpoint(self) -> Endpoint:
        """Where to dial it."""
        return Endpoint("tcp", str(HostPort(self.host, self.port)))


async def browse(seconds: float, interfaces: Sequence[str] = ()) -> AsyncIterator[Neighbour]:
    """The neighbours that answer within so many seconds, as they answer.

    Args:
        seconds: how long to listen.
        interfaces: addresses of the interfaces to ask on; all if empty.

    Raises:
        UsageError: the extra ``mdns`` is not installed.
        UnavailableError: the network cannot be asked.
    """
    zeroconf, aio = _zeroconf()
    names: asyncio.Queue[str] = asyncio.Queue(_MOST)
    known: set[str] = set()

    def heard(zeroconf: Any, service_type: str, name: str, state_change: Any) -> None:
        if state_change.name == "Added" and name not in known and len(known) < _MOST:
            known.add(name)
            names.put_nowait(name)

    loop = asyncio.get_running_loop()
    end = loop.time() + seconds
    async with _network(aio, zeroconf, interfaces) as network:
        browser = aio.AsyncServiceBrowser(network.zeroconf, SERVICE, handlers=[heard])
        try:
            while (left := end - loop.time()) > 0:
                try:
                    name = await asyncio.wait_for(names.get(), left)
                except TimeoutError:
                    return
                info = await network.async_get_service_info(SERVICE, name, timeout=_ASK_S * 1000)
                found = None if info is None else _neighbour(name, info.parsed_addresses(), info.port)
                if found is not None:
                    yield found
        finally:
            await browser.async_cancel()


@asynccontextmanager
async def announce(name: str, address: HostPort, interfaces: Sequence[str] = ()) -> AsyncIterator[None]:
    """Announce a node that listens at an address while the block runs.

    Raises:
        UsageError: the extra ``mdns`` is not installed, or the name is too long for a label.
        UnavailableError: the network cannot be told.
    """
    zeroconf, aio = _zeroconf()
    if not 1 <= len(name.encode()) <= 63:
        raise UsageError(f"{name!r} is not 1 to 63 bytes long")
    info = aio.AsyncServiceInfo(
        SERVICE,
        f"{name}.{SERVICE}",
        addresses=[ipaddress.ip_address(address.host).packed],
        port=address.port,
        server=f"{name}.local.",
    )
    async with _network(aio, zeroconf, interfaces) as network:
        await (await network.async_register_service(info, allow_name_change=True))
        try:
            yield
        finally:
            await (await network.async_unregister_service(info))


@asynccontextmanager
async def _network(aio: Any, zeroconf: Any, interfaces: Sequence[str]) -> AsyncIterator[Any]:
    try:
        network = aio.AsyncZeroconf(interfaces=list(interfaces) or zeroconf.InterfaceChoice.Default)
    except OSError as error:
        raise UnavailableError(f"mDNS is not possible: {(error.strerror or str(error)).lower()}") from error
    try:
        yield network
    finally:
        await network.async_close()


def _zeroconf() -> tuple[Any, Any]:
    try:
        import zeroconf
        import zeroconf.asyncio as aio
    except ImportError as error:
        raise UsageError("mDNS needs the package zeroconf", hint="pip install 'ockamlite[mdns]'") from error
    return zeroconf, aio


def _neighbour(name: str, addresses: Sequence[str], port: int | None) -> Neighbour | None:
    """What it said, or None if that leads nowhere."""
    if not port or not addresses:
        return None
    short = name.removesuffix(f".{SERVICE}")
    for text in sorted(addresses, key=lambda address: ":" in address):
        try:
            address = ipaddress.ip_address(text)
        except ValueError:
            continue
        host = ip6_text(address) if isinstance(address, ipaddress.IPv6Address) else str(address)
        return Neighbour(short, host, port)
    return None
