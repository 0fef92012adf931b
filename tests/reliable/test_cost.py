"""What a small message costs on a serial line, with the routes and the sealing that real ends produce."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ockamlite.routing.codec import decode_message
from ockamlite.wire.reliable.engine import ReliableLink
from ockamlite.wire.reliable.events import MessageReceived
from ockamlite.wire.reliable.profile import SERIAL

if TYPE_CHECKING:
    from collections.abc import Callable

KEYSTROKES = 6


async def test_one_byte_through_a_portal_and_a_secure_channel_costs_78_bytes_of_line(
    net: Any, joined: Callable[..., Any], line_bytes: Callable[[bytes], int]
) -> None:
    portal = await net.portal(await net.echo(), wired=True)
    there: list[bytes] = []
    back: list[bytes] = []

    def noting(kept: list[bytes]) -> Callable[[bytes], list[bytes]]:
        def note(frame: bytes) -> list[bytes]:
            kept.append(frame)
            return [frame]

        return note

    portal.wire.to_listener, portal.wire.to_dialler = noting(there), noting(back)
    reader, writer = await portal.client()
    for _ in range(KEYSTROKES):
        writer.write(b"k")
        assert await reader.readexactly(1) == b"k"
    a, b = (ReliableLink(SERIAL, session=session, now=0.0) for session in (1, 2))
    joined(a, b)
    for kept, sender, receiver in ((there, a, b), (back, b, a)):
        costs = []
        # The very last messages of each direction are keystrokes; the first of them tells the routes.
        for message in kept[-KEYSTROKES:]:
            _, _, payload = decode_message(message)
            head = message[: len(message) - len(payload)]
            sender.send(head, payload, 0.0)
            (frame,) = sender.frames_to_send(0.0, 4096)
            (event,) = receiver.receive(frame, 0.0)
            assert event == MessageReceived(message)
            receiver.frames_to_send(0.0, 4096)
            joined(a, b)
            costs.append(line_bytes(frame))
        # 66 bytes are sealed: 3 of portal message, 32 of inner routes, 7 of CBOR around them, 8 of nonce
        # and 16 of tag. 12 carry them: 1 for the outer routes, 5 of DATA frame, 4 of CRC-32, 1 of COBS,
        # 1 delimiter.
        assert {len(decode_message(message)[2]) for message in kept[-KEYSTROKES:]} == {66}
        assert set(costs[1:]) == {78}
    writer.close()
