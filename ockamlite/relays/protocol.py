"""What is said to a relay service, and which names it takes. No I/O.

A registration is a BARE string: a name, or ``register`` for one that the relay makes up. The answer
comes from the new relay address itself and is the final name as a BARE string.
"""

from __future__ import annotations

import re
from typing import Final

from ockamlite import bare
from ockamlite.errors import DecodeError, ProtocolError
from ockamlite.limits import LIMITS

STATIC_SERVICE: Final = "static_forwarding_service"
RANDOM_SERVICE: Final = "forwarding_service"
PREFIX: Final = "forward_to_"
RANDOM: Final = "register"
"""The name that asks for any."""

_NAME: Final = re.compile(r"[A-Za-z0-9._~@+-]+")


def check_name(name: str, *, most_bytes: int = LIMITS.relay_name_bytes) -> None:
    """Check the name of a relay, without its prefix.

    Raises:
        ProtocolError: empty, too long, or with characters that routes use for themselves.
    """
    if not 0 < len(name.encode()) <= most_bytes:
        raise ProtocolError(f"a relay's name has 1 to {most_bytes} bytes, not {len(name.encode())}")
    if not _NAME.fullmatch(name):
        raise ProtocolError(f"{name!r} cannot be a relay's name: letters, digits and . _ ~ @ + - only")


def decode_registration(payload: bytes | bytearray | memoryview) -> str | None:
    """The name asked for, or None for any.

    Raises:
        DecodeError: not a BARE string.
        ProtocolError: not a name.
    """
    name = bare.decode_str(bytes(payload), trailing=True)
    if name == RANDOM:
        return None
    check_name(name)
    return name


def is_answer(payload: bytes | bytearray | memoryview, name: str | None) -> bool:
    """True if this answers a registration of ``name``: the final name, behind any prefix."""
    try:
        text = bare.decode_str(bytes(payload), trailing=True)
    except DecodeError:
        return False
    return name is None or text.endswith(name)
