"""How two ends get to know each other, and notice that the other began anew. No I/O.

Each end has a session, a number that it never uses twice. A link is up once an end has seen that the
other knows its session; the pair of both starts the checks of all frames.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from ockamlite.errors import DecodeError
from ockamlite.wire.reliable import frames
from ockamlite.wire.reliable.events import Parameters, VersionMismatch
from ockamlite.wire.reliable.frames import HELLO_ACK, Hello

if TYPE_CHECKING:
    from ockamlite.wire.reliable.profile import Profile


class Heard(NamedTuple):
    """What a HELLO changes."""

    is_other: bool
    """The peer has another session than it had."""
    knows_us: bool
    """It showed that it knows our present session."""


class Sessions:
    """Our session, the peer's, and the HELLOs about them.

    Args:
        profile: when to say HELLO again.
        session: ours.
        ours: what we offer.
        kept: how many earlier sessions to remember.
    """

    def __init__(self, profile: Profile, session: int, ours: Parameters, kept: int) -> None:
        self._profile = profile
        self._ours = ours
        self._kept = kept
        self.ours = session & 0xFFFFFFFF or 1
        self.peer = 0
        """0 while unknown; proved only once the link is up."""
        self.agreed = ours
        """What both ends can do."""
        self.hears_itself = False
        self._earlier_ours: list[int] = []
        self._earlier_peer: list[int] = []
        """Those that were up: what they still say must not end the present one."""
        self._mismatch_told = False
        self._question_due = profile.speaks_first
        self._answer_due = False
        self._wait = profile.hello_first_s
        self.due_at: float | None = None
        """When to say HELLO again; None if it is due now, or never."""

    def receive(self, frame: bytes, now: float, *, is_up: bool) -> Heard | VersionMismatch | None:
        """Take a HELLO or HELLO_ACK; None if it changes nothing."""
        try:
            hello = Hello.decode(frame)
        except DecodeError:
            return None
        if hello.session == self.ours or hello.session in self._earlier_ours:
            self.hears_itself = True
            return None
        if hello.parameters is None:
            if self._mismatch_told or is_up:
                return None
            self._mismatch_told = self._answer_due = True
            return VersionMismatch(hello.version, frames.VERSION)
        is_answer = frame[0] >> 5 == HELLO_ACK
        knows_us = hello.echo == self.ours
        if (is_up and hello.session in self._earlier_peer) or (is_answer and not knows_us):
            return None
        is_other = hello.session != self.peer
        if is_other:
            if is_up:
                self._leave()
                knows_us = False
            self.peer = hello.session
            self.agreed = self._ours.both(hello.parameters)
            self._wait = self._profile.hello_first_s
            self.due_at = now + self._wait
        self._answer_due |= not is_answer
        return Heard(is_other, knows_us)

    def _leave(self) -> None:
        """Leave a pair of sessions that was up.

        We take a new number as well. A pair is never used twice, so that numbers may begin anew with
        each; and a peer that we left because of a late HELLO from an earlier life of it notices, and
        both begin anew.
        """
        self._earlier_peer = [*self._earlier_peer, self.peer][-self._kept :]
        self._earlier_ours = [*self._earlier_ours, self.ours][-self._kept :]
        self.ours = (self.ours * 747_796_405 + 2_891_336_453) & 0xFFFFFFFF or 1

    def settled(self) -> None:
        """The link is up: no more questions."""
        self.due_at = None
        self._question_due = False

    def stranger(self) -> None:
        """Somebody speaks as if we knew each other: introduce ourselves, if we were silent until now."""
        if not self._profile.speaks_first and self.due_at is None:
            self._question_due = True

    def on_timer(self, now: float) -> None:
        """Say HELLO again if it is time."""
        if self.due_at is not None and self.due_at <= now:
            self.due_at = None
            self._question_due = True

    def frame_to_send(self, now: float, budget_bytes: int, *, is_up: bool) -> bytes | None:
        """The HELLO or HELLO_ACK that is due, if it fits."""
        if not (self._question_due or self._answer_due) or budget_bytes < frames.HELLO_BYTES:
            return None
        frame = Hello(frames.VERSION, self.ours, self.peer, self._ours).encode(answer=self._answer_due)
        if self._question_due or (self.peer and not is_up):
            # An answer says all that a question would.
            self.due_at = now + self._wait
            self._wait = min(self._wait * 2, self._profile.hello_max_s)
        self._question_due = self._answer_due = False
        return frame
