"""Nodes of the local network that announce themselves by mDNS (DNS-SD, RFC 6763).

The only module that knows zeroconf and ifaddr, which the extra ``mdns`` brings. Whoever announces a node
tells everybody on the network its name and port; what a neighbour says here proves nothing about who it is.
"""

from __future__ import annotations

import asyncio
import ipaddress
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from ockamlite.errors import AlreadyExistsError, UnavailableError, UsageError
from ockamlite.routing.endpoint import Endpoint, HostPort, ip6_text

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

SERVICE: Final = "_ockamlite._tcp.local."
_ASK_S: Final = 2.0
"""How long a neighbour may take to say where it is."""
_NAME_BYTES: Final = 60
"""Of a name; a label has 63, and one may get a number behind it."""
_TAKEN_MS: Final = 1300.0
"""How long whoever has a name may take to say so: nobody repeats himself within a second (RFC 6762, §6)."""
_MOST_NUMBER: Final = 20
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
async def announce(name: str, address: HostPort, interfaces: Sequence[str] = ()) -> AsyncIterator[str]:
    """Announce a node that listens at an address while the block runs; gives the name that it has.

    A name that somebody else has already gets a number behind it.

    Args:
        name: what neighbours call it.
        address: where it listens: an IP address, or 0.0.0.0 or ``::`` for all that this machine has.
        interfaces: addresses of the interfaces to tell it on; all if empty.

    Raises:
        UsageError: the extra ``mdns`` is not installed, or the name is no label.
        UnavailableError: the network cannot be told, or there is none.
    """
    zeroconf, aio = _zeroconf()
    check_announced(name)
    found = _own_addresses() if address.is_any_host else [address.host]
    if not found:
        raise UnavailableError("this machine has no address that a neighbour could reach")
    async with _network(aio, zeroconf, interfaces) as network:
        name = await _free_name(zeroconf, network, name)
        info = aio.AsyncServiceInfo(
            SERVICE,
            f"{name}.{SERVICE}",
            addresses=[ipaddress.ip_address(host).packed for host in found],
            port=address.port,
            server=f"{_host_label(name)}.local.",
        )
        await (await network.async_register_service(info, allow_name_change=True))
        try:
            yield info.name.removesuffix(f".{SERVICE}")
        finally:
            await (await network.async_unregister_service(info))


async def _free_name(zeroconf: Any, network: Any, name: str) -> str:
    """The name, or with a number if a neighbour has it.

    What registering a name asks is answered to one socket, which need not be ours if others of this
    machine ask as well; so everybody is asked before.
    """
    for number in range(2, _MOST_NUMBER + 1):
        asked = f"{name}.{SERVICE}"
        everybody = zeroconf.DNSQuestionType.QM
        if not await network.async_get_service_info(SERVICE, asked, _TAKEN_MS, question_type=everybody):
            return name
        name = f"{name.removesuffix(f'-{number - 1}') if number > 2 else name}-{number}"
    raise AlreadyExistsError(f"{name} and the names before it are taken", hint="another name")


def check_announced(name: str) -> str:
    """Check a name to announce.

    Raises:
        UsageError: no neighbour could be called so.
    """
    if not 1 <= len(name.encode()) <= _NAME_BYTES or not name.isprintable() or "." in name:
        raise UsageError(
            f"{name!r} is no name to announce: 1 to {_NAME_BYTES} bytes, printable, no dot",
            hint="another name",
        )
    return name


def _own_addresses() -> list[str]:
    """The addresses of this machine that neighbours can reach; those of one link alone are left out."""
    import ifaddr

    found = (
        ipaddress.ip_address(str(ip.ip if ip.is_IPv4 else ip.ip[0]))
        for adapter in ifaddr.get_adapters()
        for ip in adapter.ips
    )
    return [str(address) for address in found if not (address.is_loopback or address.is_link_local)]


def _host_label(name: str) -> str:
    """The name as the label of a host: letters, digits and hyphens."""
    return "".join(c if c.isascii() and c.isalnum() else "-" for c in name).strip("-") or "ockamlite"


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
