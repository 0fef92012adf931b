"""``--announce NAME``: the local network is told, by mDNS, where this listens. Nobody is told unasked."""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import socket
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING

from ockamlite.errors import UnavailableError, UsageError
from ockamlite.routing.endpoint import HostPort

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable

    from ockamlite.links import Listener
    from ockamlite.routing.endpoint import Endpoint

logger = logging.getLogger(__name__)


def check_announcement(name: str | None, endpoints: Iterable[Endpoint]) -> None:
    """Refuse to announce what nobody could be told of.

    Raises:
        UsageError: no endpoint can be reached by others over TCP, or the name is none.
    """
    if name is None:
        return
    from boards.neighbours import check_announced

    check_announced(name)
    if not any(_is_reachable(endpoint) for endpoint in endpoints):
        raise UsageError(
            f"--announce {name}: there is no tcp: endpoint here that others can reach",
            hint="--listen tcp:0.0.0.0:4000",
        )


def _is_reachable(endpoint: Endpoint) -> bool:
    if endpoint.kind != "tcp":
        return False
    host = endpoint.host_port.host
    try:
        return not ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host != "localhost"


@asynccontextmanager
async def announced(name: str | None, links: Iterable[Listener]) -> AsyncIterator[dict[str, str]]:
    """Announce the listeners that others can reach while the block runs; what the ready event says of it.

    Raises:
        UsageError: the extra for it is not installed.
        UnavailableError: the network cannot be told.
    """
    if name is None:
        yield {}
        return
    # Only here: it is an extra.
    from boards.neighbours import announce

    async with AsyncExitStack() as stack:
        names = [
            await stack.enter_async_context(announce(name, await _numeric(link.endpoint)))
            for link in links
            if _is_reachable(link.endpoint)
        ]
        for given in names:
            logger.info("announced to the local network as %s", given)
        yield {"announced": names[0]}


async def _numeric(endpoint: Endpoint) -> HostPort:
    """Where it listens, with an address for a host that has a name."""
    where = endpoint.host_port
    try:
        ipaddress.ip_address(where.host)
    except ValueError:
        loop = asyncio.get_running_loop()
        try:
            found = await loop.getaddrinfo(where.host, where.port, type=socket.SOCK_STREAM)
        except OSError as error:
            raise UnavailableError(f"{endpoint}: {(error.strerror or str(error)).lower()}") from error
        return HostPort(str(found[0][4][0]), where.port)
    return where
