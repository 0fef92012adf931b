"""How much of a channel may be under way, by how long its peer takes to answer. No I/O, no clock.

A link slows down who sends faster than it carries, but only its own node: behind a fast first hop, sockets
and the nodes in the middle would take an hour's worth for a slow one, and every sign of life waits behind
it. So questions go along with the data. An answer tells how much has arrived, and how long that took: what
may be under way grows while it takes less than a second, and shrinks where it takes several.
"""

from __future__ import annotations

import math
from typing import Final

_QUICK_S: Final = 1.0
"""Up to this beyond the way's own time the window doubles, and nothing pauses."""
_FAIR_S: Final = 4.0
"""Up to this beyond the way's own time the window grows slowly."""
_SLOW_S: Final = 6.0
"""More than this beyond the way's own time, and too much is under way; well below ``PROBE_S``."""
_LEAST_BYTES: Final = 6144
"""May be under way in any case, and before anything is known: six seconds at 9,600 Bd."""
_QUESTION_BYTES: Final = 512
"""What a question and its answer are at most, on the wire: a way carries that in the time of an answer."""
_HASTE: Final = 1.25
"""On a slow way we send that much faster than things have arrived, or would never find more room."""
_LONGEST_PAUSE_S: Final = 3.0
_QUESTIONS: Final = 16
"""Questions that are remembered."""
_PATIENCE_S: Final = 300.0
"""The longest that anything is given to arrive."""


class _Question:
    __slots__ = ("asked_at", "at_bytes", "due_at", "round", "under_way_bytes")

    def __init__(
        self, asked_at: float, at_bytes: int, under_way_bytes: int, due_at: float, round_: int
    ) -> None:
        self.asked_at = asked_at
        self.at_bytes = at_bytes
        self.under_way_bytes = under_way_bytes
        self.due_at = due_at
        self.round = round_


class Pace:
    """What one end of a channel may send, and how long an answer to a question takes."""

    __slots__ = (
        "_asked_bytes",
        "_least_s",
        "_numbers",
        "_passed_bytes",
        "_questions",
        "_round",
        "_s_per_byte",
        "look_at",
        "sent_bytes",
        "window_bytes",
    )

    def __init__(self) -> None:
        self.sent_bytes = 0
        """All that was sent; counted by the channel."""
        self.look_at: float = 0
        """How much of it may be sent before the other members are of interest."""
        self.window_bytes: float = _LEAST_BYTES
        """What may be under way; infinite for a peer that answers no questions."""
        self._asked_bytes = -_LEAST_BYTES
        """Sent when the last question was; the first one goes along with the first message."""
        self._passed_bytes = 0
        """The peer has these, as far as its answers tell."""
        self._least_s = math.inf
        """The shortest that an answer took: the way's own time."""
        self._s_per_byte = 0.0
        """How long things take to arrive on a slow way; 0 on others."""
        self._numbers = 0
        self._round = 0
        """Counts how often the window has shrunk: what was asked before does not shrink it again."""
        self._questions: dict[int, _Question] = {}

    @property
    def under_way_bytes(self) -> int:
        """What was sent, and is not known to have arrived."""
        return self.sent_bytes - self._passed_bytes

    @property
    def is_full(self) -> bool:
        """True if more should wait until something has arrived."""
        return self.under_way_bytes >= self.window_bytes

    @property
    def wants_question(self) -> bool:
        """True if so much was sent since the last question that another one is due."""
        return self.sent_bytes - self._asked_bytes >= self.window_bytes / 2

    @property
    def is_unsure(self) -> bool:
        """True if something was sent of which no question tells; to be asked now and then."""
        return self.sent_bytes - self._asked_bytes >= _LEAST_BYTES

    def pause_s(self, size: int) -> float:
        """How long to wait after a message, lest a burst of them waits for the first slow link."""
        return min(_LONGEST_PAUSE_S, size * self._s_per_byte / _HASTE)

    def asked(self, now: float) -> int:
        """A question goes out; its number."""
        self._numbers = number = self._numbers + 1
        under_way = self.under_way_bytes
        arrives_s = under_way * self._s_per_byte
        if self.window_bytes == _LEAST_BYTES and not self._s_per_byte and math.isfinite(self._least_s):
            arrives_s = under_way / _QUESTION_BYTES * min(self._least_s, _LONGEST_PAUSE_S)
        due_at = now + min(_PATIENCE_S, arrives_s)
        self._asked_bytes = self.sent_bytes
        self._questions[number] = _Question(now, self.sent_bytes, under_way, due_at, self._round)
        if len(self._questions) > _QUESTIONS:
            # The oldest stays: when that one should have been answered is what counts.
            self._questions.pop(list(self._questions)[1])
        self._look_later()
        return number

    def answered(self, number: int, now: float) -> None:
        """The answer to a question came; one to no question of ours changes nothing."""
        question = self._questions.get(number)
        if question is None:
            return
        # On its way nothing overtakes another: who was asked before and did not answer never will.
        self._questions = {n: q for n, q in self._questions.items() if n > number}
        passed = question.at_bytes - self._passed_bytes
        self._passed_bytes = max(self._passed_bytes, question.at_bytes)
        took_s = max(now - question.asked_at, 1e-6)
        if math.isinf(self._least_s) or math.isinf(self.window_bytes):
            self.window_bytes = max(_LEAST_BYTES, _QUESTION_BYTES / took_s * _SLOW_S)
        self._least_s = min(self._least_s, took_s)
        if took_s <= self._least_s + _QUICK_S:
            self._s_per_byte = 0.0
            if 4 * passed >= self.window_bytes:
                self.window_bytes *= 2
        elif took_s <= self._least_s + _FAIR_S:
            self._s_per_byte = took_s / max(question.under_way_bytes, _LEAST_BYTES)
            if 4 * passed >= self.window_bytes:
                self.window_bytes *= 1.125
        elif question.round == self._round:
            self._s_per_byte = took_s / max(question.under_way_bytes, _LEAST_BYTES)
            if took_s > self._least_s + _SLOW_S:
                arrived = question.under_way_bytes / took_s * (self._least_s + _SLOW_S)
                self.window_bytes = max(_LEAST_BYTES, min(self.window_bytes / 2, arrived))
                self._round += 1
        self._look_later()

    def is_due(self, now: float) -> bool:
        """True unless what was asked may still be on its way behind what was sent before."""
        oldest = next(iter(self._questions.values()), None)
        return oldest is None or now >= oldest.due_at

    def set_free(self) -> None:
        """The peer answers no questions: nothing waits for its answers, until one comes."""
        self.window_bytes = math.inf
        self._s_per_byte = 0.0
        self._look_later()

    def _look_later(self) -> None:
        if self._s_per_byte:
            self.look_at = 0
        else:
            self.look_at = min(
                self._asked_bytes + self.window_bytes / 2, self._passed_bytes + self.window_bytes
            )
