"""Who sends the next fragment: fair between flows, and flows that send little go first. No I/O.

Deficit round robin with a list for flows that were idle until now (as fq_codel, RFC 8290, §4): a
flow that sends less than its share is always served at once, one that fills the link shares it with
its like. A message in several fragments holds one of eight slots, so that fragments of eight messages
may be under way at a time; two of the slots are kept for messages of a few fragments.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Final

from ockamlite.bare import encode_uint
from ockamlite.wire.reliable.compression import LITERAL, MOST_PREFIX_BYTES
from ockamlite.wire.reliable.frames import DATA, FIRST, LAST, SLOTS

if TYPE_CHECKING:
    from ockamlite.wire.reliable.compression import HeadWriter

_BULK_BYTES: Final = 4096
"""Messages longer than this may not take the last slots."""
_BULK_SLOTS: Final = SLOTS - 2
_SHARE_BYTES: Final = 256
"""What a flow may send in a round, where frames are shorter: most small messages go out whole."""
_DATA: Final = DATA << 5


class Flow:
    """The messages of one key that wait for the link: they keep their order."""

    __slots__ = ("at", "content", "deficit", "key", "left", "messages", "slot", "waiting_bytes")

    def __init__(self, key: bytes, deficit: int) -> None:
        self.key = key
        self.messages: deque[tuple[bytes | None, bytes]] = deque()
        """Each with its head; None if that is part of it."""
        self.waiting_bytes = 0
        self.deficit = deficit
        """What it may still send in this round."""
        self.content: bytes | None = None
        """The message under way, if it has several fragments."""
        self.at = 0
        """How far it has been sent."""
        self.left = 0
        """What of it still counts as waiting."""
        self.slot = 0


class FairQueue:
    """What waits to be sent, by flow.

    Args:
        budget_bytes: how much may be in messages under way at a time.
    """

    def __init__(self, budget_bytes: int) -> None:
        self.waiting_bytes = 0
        """Not yet sent for the first time."""
        self.budget_bytes = budget_bytes
        self._flows: dict[bytes, Flow] = {}
        self._new: deque[Flow] = deque()
        self._old: deque[Flow] = deque()
        self._blocked: deque[Flow] = deque()
        """Flows whose next message waits for a slot, or for room in the budget."""
        self._patient: Flow | None = None
        """The flow for which no other long message may begin, so that the budget gets free for it."""
        self._slots: dict[int, int] = {}
        """Slots in use, with the size of the message."""
        self._under_way = 0
        self._messages = 0

    def __bool__(self) -> bool:
        """True if something waits; what is blocked is so by something that can be sent."""
        return self._messages > 0

    def flow_bytes(self, key: bytes) -> int:
        """How much of one flow waits."""
        flow = self._flows.get(key)
        return flow.waiting_bytes if flow is not None else 0

    def push(self, key: bytes, head: bytes | None, payload: bytes) -> int:
        """Queue a message.

        Args:
            key: of its flow.
            head: what is to be compressed of it; None to send ``payload`` as it is.
            payload: the rest, or all, of the message.

        Returns:
            How much of its flow waits.
        """
        flow = self._flows.get(key)
        if flow is None:
            flow = self._flows[key] = Flow(key, _SHARE_BYTES)
            self._new.append(flow)
        elif flow.deficit > 0 and flow.content is None and not flow.messages and flow in self._old:
            # It has not used up its share of this round: it counts as one that sends little.
            self._old.remove(flow)
            self._new.append(flow)
        flow.messages.append((head, payload))
        size = len(payload)
        flow.waiting_bytes += size
        self.waiting_bytes += size
        self._messages += 1
        return flow.waiting_bytes

    def take(self, room: int, writer: HeadWriter) -> tuple[int, bytes] | None:
        """The next fragment, of at most ``room`` bytes: its first octet and its payload."""
        while True:
            line = self._new or self._old
            if not line:
                return None
            flow = line[0]
            if flow.deficit <= 0:
                flow.deficit += max(room, _SHARE_BYTES)
                line.popleft()
                self._old.append(flow)
            elif flow.content is None and not flow.messages:
                line.popleft()
                if line is self._new:
                    # Once more round, or it could send without end as a flow that was idle.
                    self._old.append(flow)
                else:
                    del self._flows[flow.key]
            elif flow.content is None and not self._may_begin(flow, room):
                line.popleft()
                self._blocked.append(flow)
            else:
                octet, fragment = self._cut(flow, room, writer)
                flow.deficit -= len(fragment)
                return octet, fragment

    def _may_begin(self, flow: Flow, room: int) -> bool:
        size = len(flow.messages[0][1])
        if size + MOST_PREFIX_BYTES <= room:
            return True
        is_bulk = size > _BULK_BYTES
        if len(self._slots) >= (_BULK_SLOTS if is_bulk else SLOTS):
            return False
        if is_bulk and self._patient is not None and self._patient is not flow:
            return False
        if self._slots and self._under_way + size > self.budget_bytes:
            if is_bulk:
                self._patient = flow
            return False
        if self._patient is flow:
            self._patient = None
        return True

    def _cut(self, flow: Flow, room: int, writer: HeadWriter) -> tuple[int, bytes]:
        content = flow.content
        if content is not None:
            at = flow.at
            end = flow.at = at + room
            fragment = content[at:end]
            if end < len(content):
                self._sent(flow, min(flow.left, room))
                return _DATA | flow.slot, fragment
            self._sent(flow, flow.left)
            flow.content = None
            self._messages -= 1
            self._under_way -= self._slots.pop(flow.slot)
            if self._blocked:
                self._old += self._blocked
                self._blocked.clear()
            return _DATA | LAST | flow.slot, fragment
        head, payload = flow.messages.popleft()
        prefix = writer.reference(head) if head is not None else LITERAL
        size = len(prefix) + len(payload)
        if size <= room:
            self._messages -= 1
            flow.left = len(payload)
            self._sent(flow, flow.left)
            return _DATA | FIRST | LAST, prefix + payload
        flow.content = content = b"".join((encode_uint(size), prefix, payload))
        flow.at = room
        flow.left = len(payload)
        slot = 0
        while slot in self._slots:
            slot += 1
        flow.slot = slot
        self._slots[slot] = len(payload)
        self._under_way += len(payload)
        self._sent(flow, min(flow.left, room))
        return _DATA | FIRST | slot, content[:room]

    def _sent(self, flow: Flow, size: int) -> None:
        flow.left -= size
        flow.waiting_bytes -= size
        self.waiting_bytes -= size
