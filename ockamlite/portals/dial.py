"""Connect an outlet's session to its target."""

from __future__ import annotations

import asyncio
import errno
import socket
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ockamlite.routing.endpoint import HostPort

_WORDS = {
    errno.ECONNREFUSED: "connection refused",
    errno.EHOSTUNREACH: "no route to the host",
    errno.ENETUNREACH: "network unreachable",
    errno.EMFILE: "too many open files",
}


async def dial(target: HostPort, protocol: asyncio.BaseProtocol) -> str | None:
    """Connect ``protocol`` to ``target``; names are resolved each time.

    Returns:
        None, or in a few words why it cannot be reached.
    """
    loop = asyncio.get_running_loop()
    try:
        await loop.create_connection(lambda: protocol, target.host, target.port)
    except socket.gaierror:
        return "host unknown"
    except OSError as error:
        return _WORDS.get(error.errno or 0) or str(error.strerror or error).lower()
    return None
