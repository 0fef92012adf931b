"""What a reliable link has to know of the line or radio under it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

from ockamlite.wire.reliable.frames import DATA_OVERHEAD_BYTES, LEAST_PAYLOAD_BYTES

_FRAME_S: Final = 0.023
"""How long one frame may keep the line busy: what a keystroke waits for, at least."""
_SHORTEST: Final = 64
_LONGEST: Final = 1024


@dataclass(frozen=True, slots=True)
class Profile:
    """The numbers of one kind of link. Sizes are payloads of DATA frames, times are seconds."""

    name: str
    payload_min: int
    """Frames never get shorter than this, however many are lost."""
    payload_default: int
    """Where the frame size starts."""
    payload_max: int
    """The longest sent; the size returns to it while few frames are lost."""
    payload_accept: int = _LONGEST
    """The longest accepted, as told to the peer."""
    window: int = 16
    """DATA frames under way at a time, 1 to 32."""
    bytes_per_s: float | None = None
    """What the line carries, if known: how long our own frames take before an answer can come."""
    framing_bytes: int = 0
    """What the transport adds to each frame: delimiters and checksums take their time as well."""
    reorder_frames: int = 0
    """How many later frames may overtake one before it counts as lost; a wire keeps order."""
    ack_delay_s: float = 0.020
    """How long an acknowledgement may wait for data to ride on."""
    ack_every: int = 8
    """Frames after which it waits no longer."""
    probe_first_s: float = 0.3
    """Without an answer for this long (and the frames' own time) the oldest frame is sent again."""
    probe_margin_s: float = 0.1
    """Added to the measured round trip; covers the peer's delay of its acknowledgement."""
    probe_max_s: float = 3.2
    """The time doubles with every try up to this."""
    probe_tries: int = 8
    """Probes in a row without an answer after which the link is down."""
    stuck_after_s: float = 30.0
    """How long probes may move nothing while short frames are answered: noise spares those."""
    ping_after_s: float = 5.0
    """Silence of the peer after which it is asked for a sign of life."""
    ping_again_s: float = 2.5
    down_after_s: float = 15.0
    """Silence of the peer after which the link is down."""
    hello_first_s: float = 0.25
    hello_max_s: float = 2.0
    """Between HELLOs while nobody answers; the time doubles up to this."""
    linger_s: float = 2.0
    """How long a link that is being closed may take to deliver what waits."""
    speaks_first: bool = True
    """False: send no HELLO until a frame comes, so that nothing disturbs a boot loader or a stranger."""

    @classmethod
    def serial(cls, baud: int) -> Profile:
        """A serial line of ``baud`` bits a second, ten of them per byte.

        Frames take some 23 ms, but are of 64 to 1024 bytes: 256 at 115,200 Bd.
        """
        rate = baud / 10
        payload = _SHORTEST
        while payload < _LONGEST and payload * 2 <= rate * _FRAME_S:
            payload *= 2
        return cls(
            name="serial",
            payload_min=_SHORTEST,
            payload_default=payload,
            payload_max=payload,
            # Beyond a megabaud the round trip is that of the USB bus, not of the frames.
            window=16 if baud <= 1_000_000 else 32,
            bytes_per_s=rate,
            framing_bytes=7,
        )

    @classmethod
    def ble(cls, chunk_bytes: int = 20) -> Profile:
        """GATT values of ``chunk_bytes``; ``ReliableLink.set_payload_limit`` follows a growing MTU."""
        payload = max(LEAST_PAYLOAD_BYTES, chunk_bytes - DATA_OVERHEAD_BYTES)
        # The radio checks and repeats by itself: a loss says nothing about the length of a frame.
        return replace(BLE, payload_min=payload, payload_default=payload, payload_max=payload)


SERIAL: Final = Profile.serial(115_200)
"""A serial line at 115,200 Bd."""
BLE: Final = Profile(
    name="ble",
    payload_min=15,
    payload_default=15,
    payload_max=15,
    reorder_frames=3,
    ack_delay_s=0.040,
    ack_every=4,
    probe_margin_s=0.15,
)
"""GATT writes and notifications at the smallest MTU."""
