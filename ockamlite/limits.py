"""Every limit of ockamlite in one value: its unit in the name, its reason beside it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds on what a peer can make us hold, compute or wait for."""

    # Codecs
    message_bytes: int = 16 * 1024 * 1024
    """Largest routing message: the frame limit of Ockam's TCP transport."""
    route_hops: int = 64
    """Longest onward or return route accepted; real routes have under ten hops."""
    address_bytes: int = 256
    """Longest address body accepted; Ockam's own have 32, host names at most 253."""
    cbor_depth: int = 12
    """Deepest nesting decoded; a credential refresh, the deepest message, nests nine."""
    cbor_items: int = 4096
    """Most entries of one array or map."""
    cbor_values: int = 16_384
    """Most values of one decoding, nested ones included: a frame of empty arrays would fill a gigabyte."""
    bare_items: int = 65_536
    """Most entries of one BARE list or map."""
    skipped_bytes: int = 16 * 1024
    """Slots of a message that we do not know; a tracing context with baggage takes up to 9 KiB."""

    # Identities
    changes: int = 64
    """Most changes in a history: each costs two signature checks."""
    credentials: int = 8
    """Most credentials in one handshake or refresh."""
    attributes: int = 64
    """Most attributes of one credential."""
    attribute_bytes: int = 4096
    """Longest key or value of an attribute."""
    clock_skew_s: int = 60
    """How far in the future an attestation may have been created, as in Ockam."""
    stored_identities: int = 10_000
    """Most peers remembered; the one not met for longest is forgotten first."""

    verified_histories: int = 256
    """Histories whose verification is remembered; forgetting one costs its signature checks again."""

    # Secure channels
    handshake_bytes: int = 65_535
    """Longest handshake message, as in Noise."""
    handshake_timeout_s: float = 20.0
    """How long either side keeps an unfinished handshake."""
    pending_handshakes: int = 256
    """Unfinished handshakes a listener keeps; the oldest gives way."""
    pending_handshakes_per_source: int = 32
    """The same for one link, so that one peer cannot displace the others."""
    handshakes_per_source_s: float = 300.0
    """Handshakes begun per second over one link, beyond a burst of the line above."""
    channels_per_listener: int = 4096
    """Open channels of one listener; the longest idle of the peer that has most gives way."""
    channels_per_peer: int = 256
    """The same for one identity; its own longest idle gives way."""
    channel_idle_s: float = 3600.0
    """How long a channel may stay silent if its peer does not answer probes."""
    forward_jump_messages: int = 2048
    """Largest gap in nonces accepted, 64 rekeys: a burst of losses on a radio stays below it."""
    backlog_messages: int = 2048
    """How far behind the newest a late message may come."""
    speculative_rekeys_per_s: int = 4096
    """Key derivations that unauthenticated nonces may cause in a second: some 2 % of a core."""

    # Workers and links
    mailbox_messages: int = 64
    """Messages waiting for one worker before its senders wait."""
    mailbox_excess_messages: int = 1024
    """The same for messages of a link that their worker waits for; more are dropped, or both would wait."""
    mailbox_excess_bytes: int = 16 * 1024 * 1024
    """Bytes of them."""
    link_buffer_bytes: int = 128 * 1024
    """Bytes waiting in a link before its senders wait: more only adds delay for those behind."""
    link_hold_s: float = 6.0
    """How long a full link may keep others from being read from: nobody may stop his neighbours."""
    link_hold_alone_s: float = 10.0
    """The same if what is not read has nowhere else to go; well below the stall that ends a link."""
    link_excess_bytes: int = 4096 * 1024
    """What links bring for a full one is taken up to here before it is dropped; what a link brings for
    itself holds it only then: more than sockets keep, or two nodes that ask each other stop each other."""
    node_excess_bytes: int = 64 * 1024 * 1024
    """The same over all links."""
    link_stall_s: float = 45.0
    """How long a full link may take for ``link_buffer_bytes`` before it is given up; longer than the stall
    of a portal, which is a lesser loss."""
    link_hello_s: float = 10.0
    """How long an accepted link may take to send its version byte."""
    long_frames_bytes: int = 64 * 1024 * 1024
    """Bytes of frames longer than a read that are under way at a time, over all links of a transport."""
    links_per_listener: int = 2048
    """Links accepted by one listener at a time."""
    link_unused_s: float = 60.0
    """How long a link on which nothing lives may be silent before it gives way to another one."""

    # Datagrams
    datagram_messages_per_peer: int = 16
    """Messages of one peer that may be under way in pieces; the one begun first gives way."""
    datagram_reassembly_s: float = 5.0
    """How long the pieces of one message may take: no path delays a datagram for longer."""
    datagram_peer_bytes: int = 24 * 1024 * 1024
    """Kept of unfinished messages of one peer: the longest message in the smallest usual pieces."""
    datagram_pending_bytes: int = 48 * 1024 * 1024
    """The same for all peers of a socket whose address is proven."""
    datagram_unproven_peer_bytes: int = 128 * 1024
    """The same for an address that has proven nothing: a handshake, or a few portal messages."""
    datagram_unproven_pending_bytes: int = 4 * 1024 * 1024
    """The same for all of these: a flood of first pieces must not fill the memory."""
    datagram_repeats: int = 256
    """Numbers of whole messages of a peer remembered for some seconds, to know their repetitions."""
    datagram_unproven_repeats: int = 16
    """The same for an address that has proven nothing: 4 MiB for a thousand of them."""
    datagram_advance_bytes: int = 1536
    """Sent to an unproven address beyond what came from there: the answer of a Rust peer's handshake, with
    a credential or two."""
    datagram_advance_bytes_per_s: int = 16 * 1024
    """The same over all unproven addresses: forty handshakes of Rust peers, whose first message is a fifth
    of its answer; 0 answers none of those."""
    datagram_peers: int = 1024
    """Links accepted on one socket at a time; the longest idle, least proven one gives way."""
    datagram_quiet_s: float = 10.0
    """A link whose peer is proven gives way to a stranger only after such silence."""
    datagram_proven_peers: int = 4096
    """Addresses without a link that are remembered as proven: a few hundred bytes each."""
    datagram_idle_s: float = 300.0
    """How long an accepted link may bring nothing; peers that live send something every ten seconds."""

    reliable_message_bytes: int = 1024 * 1024
    """Longest message over a serial or BLE link, and all that are put together there at a time: a
    minute and a half at 115,200 Bd."""
    reliable_queue_bytes: int = 4 * 1024 * 1024
    """Bytes waiting in such a link before it refuses more: senders who mind its gates never see this."""
    reliable_sessions: int = 16
    """Earlier sessions of the peer whose late frames such a link knows and ignores."""

    # Portals and relays
    portal_chunk_bytes: int = 48 * 1024
    """Payload of one portal message, as Ockam's releases before 0.144 send it."""
    portal_bulk_chunk_bytes: int = 96 * 1024
    """The same where chunks follow one another within milliseconds: fewer messages cost less, and
    nobody waits long behind one. Later releases send 128 KiB, all accept whatever a link carries."""
    portal_buffer_bytes: int = 256 * 1024
    """Bytes waiting for one application before the link under it is held."""
    portal_stall_s: float = 15.0
    """How long an application may hold the link under it before its connection is ended; well below
    the half minute after which the held link's peers would be taken for dead."""
    portal_connect_s: float = 9.0
    """How long a client waits for the outlet, an outlet for its target."""
    portal_close_grace_s: float = 2.0
    """How long a closing portal connection waits for what is still under way."""
    portal_half_closed_s: float = 60.0
    """How long a connection whose one side has ended may be silent, if the peer is known to listen on."""
    portal_connections: int = 4096
    """Connections of one inlet or outlet at a time."""
    relay_name_bytes: int = 128
    """Longest name of a relay."""
    relays_per_peer: int = 64
    """Registrations of one link or identity."""
    relays: int = 10_000
    """Registrations of one relay node."""


LIMITS: Final = Limits()
