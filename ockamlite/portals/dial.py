"""Connect an outlet's session to its target."""

from __future__ import annotations

import asyncio
import errno
import ipaddress
import re
import socket
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from ockamlite.routing.endpoint import HostPort

_WORDS: Final = {
    errno.ECONNREFUSED: "connection refused",
    errno.EHOSTUNREACH: "no route to the host",
    errno.ENETUNREACH: "network unreachable",
    errno.EMFILE: "too many open files",
}
_NEXT_ADDRESS_S: Final = 0.25
"""How long an address of a name may take before the next is tried beside it (RFC 8305)."""


async def dial(target: HostPort, protocol: asyncio.BaseProtocol) -> str | None:
    """Connect ``protocol`` to ``target``; names are resolved each time.

    Returns:
        None, or in a few words why it cannot be reached.
    """
    loop = asyncio.get_running_loop()
    try:
        await loop.create_connection(
            lambda: protocol,
            target.host,
            target.port,
            happy_eyeballs_delay=None if _is_literal(target.host) else _NEXT_ADDRESS_S,
        )
    except (socket.gaierror, UnicodeError):
        return "host unknown"
    except OSError as error:
        return _describe(error)
    return None


def _is_literal(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _describe(error: OSError) -> str:
    number = error.errno
    if number is None and (found := re.search(r"\[Errno (\d+)\]", str(error))):
        number = int(found[1])  # several addresses failed, and asyncio made one text of it
    return _WORDS.get(number or 0) or str(error.strerror or error).lower()
