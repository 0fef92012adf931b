"""The sending half: numbers, what is under way, what is lost, how long to wait. No I/O.

Selective repeat. Losses show by the order of transmission (as in QUIC, RFC 9002, §6.1): once something
is acknowledged, what was sent before it and is not acknowledged itself is lost, whether it was sent for
the first time or again. Only when nothing at all comes back is the oldest frame sent again as a probe.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from ockamlite.wire.reliable.profile import Profile

_SAMPLE_FRAMES: Final = 32
"""Frames over which losses are counted before the frame size follows them."""
_SHRINK: Final = 0.10
_GROW: Final = 0.01


class Sent:
    """A DATA frame that is not acknowledged yet."""

    __slots__ = ("first_order", "octet", "order", "payload", "sent_at", "seq")

    def __init__(self, seq: int, octet: int, payload: bytes) -> None:
        self.seq = seq
        self.octet = octet
        self.payload = payload
        self.order = self.first_order = -1
        """Place among all transmissions, of the last and of the first one; -1 before it."""
        self.sent_at = 0.0


class SendWindow:
    """DATA frames from their first transmission until they are acknowledged."""

    def __init__(self, profile: Profile) -> None:
        self._profile = profile
        self.window = profile.window
        self.payload_bytes = profile.payload_default
        """The size of new frames, as losses allow."""
        self.payload_limit = profile.payload_max
        self.base = 0
        """The oldest number not acknowledged in sequence."""
        self.next = 0
        """The number of the next new frame."""
        self.lost: deque[Sent] = deque()
        """To be sent again, before anything new."""
        self.tries = 0
        """Probes in a row that nothing answered."""
        self._stuck_since: float | None = None
        """When the first probe was sent that has moved nothing yet."""
        self._frames: dict[int, Sent] = {}
        """By number, without those that the peer has out of sequence."""
        self._under_way: dict[int, Sent] = {}
        """By order of transmission, without those that are lost."""
        self._under_way_bytes = 0
        self._order = 0
        self.since = 0.0
        """When something was last sent or acknowledged."""
        self.taken_at = 0.0
        """When the peer last took something, not only received it."""
        self._srtt = 0.0
        self._rttvar = 0.0
        self._min_rtt = 0.0
        self._arrived = self._failed = 0

    @property
    def is_open(self) -> bool:
        """True if a new frame may be sent."""
        return self.next - self.base < self.window

    @property
    def is_empty(self) -> bool:
        """True if everything sent has arrived, and been taken."""
        return self.next == self.base

    @property
    def all_arrived(self) -> bool:
        """True if the peer has everything sent, though it may not have taken it."""
        return not self._frames

    def limit(self, payload_bytes: int, window: int) -> None:
        """Keep to what both ends can do."""
        self.window = window
        self.payload_limit = payload_bytes
        self.payload_bytes = min(self.payload_bytes, payload_bytes)

    def new(self, octet: int, payload: bytes) -> Sent:
        """Number a new frame."""
        sent = self._frames[self.next] = Sent(self.next, octet, payload)
        self.next += 1
        return sent

    def transmitted(self, sent: Sent, now: float) -> None:
        """Note that a frame was handed to the line."""
        order = self._order
        self._order = order + 1
        if sent.order < 0:
            sent.first_order = order
        sent.order = order
        sent.sent_at = self.since = now
        self._under_way[order] = sent
        self._under_way_bytes += len(sent.payload)

    def acknowledge(self, ack: int, received: int, now: float) -> bool:
        """Take an acknowledgement of all before ``ack``, and of those in the bit map behind it.

        Returns:
            True if it told of something new.
        """
        if not self.base <= ack <= self.next:
            return False
        news = [self._frames.pop(seq) for seq in range(self.base, ack) if seq in self._frames]
        progress = ack > self.base
        self.base = ack
        while received:
            bit = received & -received
            received ^= bit
            sent = self._frames.pop(ack + bit.bit_length() - 1, None)
            if sent is not None:
                news.append(sent)
        if progress:
            self.taken_at = now
        if progress or news:
            self.since = now
            self.tries = 0
            self._stuck_since = None
        if not news:
            return progress
        newest = -1
        for sent in news:
            if self._under_way.pop(sent.order, None) is not None:
                self._under_way_bytes -= len(sent.payload)
                rtt = now - sent.sent_at
                if sent.order == sent.first_order:
                    self._measure(rtt)
                    newest = max(newest, sent.order)
                elif rtt < self._min_rtt:
                    newest = max(newest, sent.first_order)  # too soon: the first one had arrived
                else:
                    newest = max(newest, sent.order)
            elif sent in self.lost:
                self.lost.remove(sent)
        self._arrived += len(news)
        self._find_losses(newest)
        return True

    def _find_losses(self, newest: int) -> None:
        """Everything sent before ``newest`` should have come before it."""
        threshold = newest - self._profile.reorder_frames
        lost = []
        for order, sent in self._under_way.items():
            if order >= threshold:
                break
            lost.append(sent)
        for sent in lost:
            self._give_up(sent)
        self._failed += len(lost)
        if self._arrived + self._failed >= _SAMPLE_FRAMES:
            self._adapt()

    def _give_up(self, sent: Sent) -> None:
        del self._under_way[sent.order]
        self._under_way_bytes -= len(sent.payload)
        self.lost.append(sent)

    def probe(self, now: float) -> None:
        """Send the oldest frame again because nothing comes back."""
        self.tries += 1
        if self._stuck_since is None:
            self._stuck_since = now
        if self._under_way:
            sent = min(self._under_way.values(), key=lambda sent: sent.seq)
            self._give_up(sent)

    def is_hopeless(self, now: float) -> bool:
        """True if nothing answers any more, or what answers never gets what we send."""
        profile = self._profile
        if self.tries >= profile.probe_tries:
            return True
        return self._stuck_since is not None and now - self._stuck_since >= profile.stuck_after_s

    def asked(self, now: float) -> None:
        """Note that the peer, which holds everything sent, was asked whether it takes more."""
        self.tries += 1
        self.since = now

    def hurry(self, now: float) -> None:
        """The peer saw damage: if nothing newer can show what it was, send the oldest again."""
        if len(self.lost) or not self._under_way:
            return
        sent = next(iter(self._under_way.values()))
        if now - sent.sent_at >= self._line_time(sent):
            self._failed += 1
            self._give_up(sent)

    def _line_time(self, sent: Sent) -> float:
        rate = self._profile.bytes_per_s
        return len(sent.payload) / rate if rate else self._min_rtt

    @property
    def probe_at(self) -> float | None:
        """When to probe; None while nothing is under way, or something waits to be sent again."""
        if not self._under_way or self.lost:
            return None
        return self.since + self.patience_s

    @property
    def patience_s(self) -> float:
        """How long an answer may take, for the tries there have been."""
        profile = self._profile
        rate = profile.bytes_per_s
        line_s = 0.0
        if rate:
            line_s = (self._under_way_bytes + len(self._under_way) * profile.framing_bytes) / rate
        if self._srtt:
            wait = max(line_s, self._srtt) + 4 * self._rttvar + profile.probe_margin_s
        else:
            wait = line_s + profile.probe_first_s
        return float(min(wait * 2 ** min(self.tries, 10), max(profile.probe_max_s, line_s)))

    def _measure(self, rtt: float) -> None:
        """Follow the round trip (RFC 6298, §2)."""
        if not self._srtt:
            self._srtt = self._min_rtt = rtt
            self._rttvar = rtt / 2
            return
        self._rttvar += (abs(self._srtt - rtt) - self._rttvar) / 4
        self._srtt += (rtt - self._srtt) / 8
        self._min_rtt = min(self._min_rtt, rtt)

    def _adapt(self) -> None:
        """Shorter frames on a line that damages many, longer ones while few are lost."""
        ratio = self._failed / (self._arrived + self._failed)
        if ratio > _SHRINK:
            self.payload_bytes = max(
                self.payload_bytes // 2, min(self._profile.payload_min, self.payload_limit)
            )
        elif ratio < _GROW:
            self.payload_bytes = min(self.payload_bytes * 2, self.payload_limit)
        self._arrived = self._failed = 0
