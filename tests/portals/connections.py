"""What tests of portals do with connections again and again."""

from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import asyncio

MEBIBYTE = 1024 * 1024
GIBIBYTE_WANTED = os.environ.get("OCKAMLITE_TEST_GIBIBYTE")


def free_port() -> int:
    """A port where nobody listens."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port: int = unused.getsockname()[1]
        return port


async def ends(reader: asyncio.StreamReader) -> tuple[bytes, bool]:
    """What comes until the end, and whether the end was a good one."""
    found = b""
    try:
        while data := await reader.read(65_536):
            found += data
    except ConnectionError:
        return found, False
    return found, True
