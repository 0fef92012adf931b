"""What a reliable link tells the shell that drives it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias


@dataclass(frozen=True, slots=True)
class Parameters:
    """What one end offers in its HELLO, or both together: the smaller of each."""

    payload_bytes: int
    """Longest payload of a DATA frame it takes."""
    window: int
    """DATA frames under way at a time."""
    message_bytes: int
    """Longest message, and all that are being put together at a time."""

    def both(self, other: Parameters) -> Parameters:
        """What both ends can do."""
        return Parameters(
            min(self.payload_bytes, other.payload_bytes),
            min(self.window, other.window),
            min(self.message_bytes, other.message_bytes),
        )


@dataclass(frozen=True, slots=True)
class LinkUp:
    """Both ends know each other: messages flow."""

    version: int
    session: int
    """The peer's."""
    parameters: Parameters


@dataclass(frozen=True, slots=True)
class MessageReceived:
    """One whole routing message, byte for byte as it was sent."""

    message: bytes


@dataclass(frozen=True, slots=True)
class PeerRestarted:
    """The peer began a new session: what was queued or under way in the old one is lost.

    Another LinkUp follows. Messages sent from now on belong to the new session.
    """


@dataclass(frozen=True, slots=True)
class LinkDown:
    """The link has ended, for good: a new one needs a new engine."""

    reason: str
    by_peer: bool = False
    """True if the peer ended it; otherwise it broke."""


@dataclass(frozen=True, slots=True)
class VersionMismatch:
    """The peer speaks another version of this protocol; told once, the link does not come up."""

    theirs: int
    ours: int


Event: TypeAlias = LinkUp | MessageReceived | PeerRestarted | LinkDown | VersionMismatch
