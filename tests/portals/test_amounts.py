"""Connections through portals: any amount arrives, byte for byte."""

from __future__ import annotations

import asyncio
import hashlib
import os
from typing import Any

import pytest

from tests.portals.connections import GIBIBYTE_WANTED, MEBIBYTE


def digest_of(blocks: int, block: bytes) -> bytes:
    digest = hashlib.sha256()
    for number in range(blocks):
        digest.update(number.to_bytes(8, "big"))
        digest.update(block)
    return digest.digest()


async def send_all(writer: asyncio.StreamWriter, blocks: int, block: bytes) -> None:
    for number in range(blocks):
        writer.write(number.to_bytes(8, "big") + block)
        await writer.drain()
    writer.write_eof()


async def digest_all(reader: asyncio.StreamReader) -> bytes:
    digest = hashlib.sha256()
    while data := await reader.read(262_144):
        digest.update(data)
    return digest.digest()


@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    "mebibytes",
    [
        64,
        pytest.param(
            1024,
            marks=pytest.mark.skipif(
                not GIBIBYTE_WANTED, reason="set OCKAMLITE_TEST_GIBIBYTE=1 for 1 GiB each way"
            ),
        ),
    ],
)
async def test_a_large_transfer_both_ways_at_once_is_exact(net: Any, mebibytes: int) -> None:
    block = os.urandom(MEBIBYTE - 8)
    expected = digest_of(mebibytes, block)
    at_target: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        sending = asyncio.ensure_future(send_all(writer, mebibytes, block))
        at_target.set_result(await digest_all(reader))
        await sending

    portal = await net.portal(await net.serve(serve))
    reader, writer = await portal.client()
    sending = asyncio.ensure_future(send_all(writer, mebibytes, block))
    assert await digest_all(reader) == expected
    assert await at_target == expected
    await sending
    writer.close()
    await portal.is_clean()
    closed = await portal.laptop.event("session-close")
    assert closed.sent_bytes == closed.received_bytes == mebibytes * MEBIBYTE
