"""One step of a trace: a message that left a node or came to one, or a link that came up or went down."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any


class Contents(StrEnum):
    """What somebody who sees a message on a hop can make of its payload."""

    PLAIN = "plain"
    """All of it: no channel covers this hop."""
    HANDSHAKE = "handshake"
    """Nothing but that a secure channel begins: fresh keys, and sealed identities."""
    SEALED = "sealed"
    """Nothing."""
    DAMAGED = "damaged"
    """It is no routing message any more."""


@dataclass(frozen=True, slots=True)
class Step:
    """A message left a node, or came to one; or a link came up or went down."""

    at: float
    """Seconds since the trace began."""
    event: str
    """``sent``, ``arrived``, ``link-up`` or ``link-down``."""
    link: str
    source: str
    """Name of the node that sends; for a link, the one that tells of it."""
    target: str
    number: int | None = None
    """Of the message on this hop: the same where it was sent and where it arrived; None if what arrived was
    never sent like this."""
    size: int = 0
    """Of the whole message in bytes, the link's own frames excluded."""
    onward: tuple[str, ...] = ()
    back: tuple[str, ...] = ()
    contents: Contents | None = None
    reason: str = ""
    """Why a link went down."""
    data: bytes = b""
    """The message; not part of what is written."""

    @property
    def readable(self) -> bool:
        """True if whoever sees this hop can read the payload."""
        return self.contents is Contents.PLAIN

    def values(self) -> dict[str, Any]:
        """What is written of it."""
        values: dict[str, Any] = {
            "time": round(self.at, 6),
            "event": self.event,
            "link": self.link,
            "from": self.source,
            "to": self.target,
        }
        if self.contents is None:
            return values | ({"reason": self.reason} if self.event == "link-down" else {})
        return values | {
            "message": self.number,
            "bytes": self.size,
            "onward": list(self.onward),
            "return": list(self.back),
            "contents": str(self.contents),
            "readable": self.readable,
        }
