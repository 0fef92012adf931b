"""What tests of handshakes and channels do with them again and again."""

from __future__ import annotations

import time as wall_clock
from typing import TYPE_CHECKING, Any

from ockamlite.identities.local import LocalIdentity
from ockamlite.secure_channels.protocol import Initiator
from ockamlite.vault.software import ephemeral_dh_key

if TYPE_CHECKING:
    from ockamlite.node import Node
    from ockamlite.workers.context import Context
    from ockamlite.workers.mailbox import Received

MESSAGES = {1: 0, 2: 1, 3: 2}
"""Which frame between Alice and Bob carries which message of the handshake."""


def flipped(frame: bytes, behind: int) -> bytes:
    """A frame with one bit changed, so many bytes before its end."""
    at = len(frame) - 1 - behind
    return frame[:at] + bytes((frame[at] ^ 1,)) + frame[at + 1 :]


def stranger_core(identity: LocalIdentity | None = None) -> Initiator:
    now = int(wall_clock.time())
    identity = identity or LocalIdentity.ephemeral(now)
    static, _ = identity.secure_channel_key(now)
    return Initiator(static, ephemeral_dh_key(), identity.handshake_payload(now))


async def answers(context: Context, message: Received) -> None:
    await context.reply(message, message.payload)


async def opened(pair: Any, **options: Any) -> tuple[Any, Any]:
    """Both ends of a channel."""
    channel = await pair.channel(**options)
    await channel.confirmed
    return channel, list(pair.channels.channels)[-1]


async def works(node: Node, channel: Any) -> bool:
    """True if what is sent through the channel is answered."""
    answer = await node.ask(channel.route / "echo", b"there and back", timeout_s=60)
    return answer.payload == b"there and back"
