"""UDP links on real sockets: how they begin and end, what strangers get, and what floods do."""

from __future__ import annotations

import asyncio
import dataclasses
import socket
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from ockamlite.cbor import bytes_head
from ockamlite.errors import LinkBrokenError, UnavailableError, UsageError
from ockamlite.limits import LIMITS
from ockamlite.routing.codec import decode_message, encode_message_head
from ockamlite.routing.endpoint import Endpoint
from ockamlite.routing.route import Route
from ockamlite.wire.datagrams import Dialect, Piece, decode_piece, encode_piece, split
from ockamlite.wire.heartbeats import Heartbeat, Kind, encode_heartbeat
from transports.udp import UdpTransport

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from ockamlite.errors import OckamError
    from ockamlite.limits import Limits
    from ockamlite.wire.link import Link

PATIENCE_S = 10.0


def message(payload: bytes, back: str = "") -> bytes:
    head = encode_message_head(Route.of("worker"), Route.of(back) if back else Route())
    return head + bytes_head(len(payload)) + payload


class End:
    """A receiver that keeps what its link brings."""

    def __init__(self, link: Link) -> None:
        self.link = link
        self.came: list[bytes] = []
        self.closed: OckamError | str | None = "open"
        self.gaps = 0

    def frame_received(self, frame: memoryview) -> None:
        self.came.append(bytes(decode_message(frame)[2]))

    def messages_lost(self) -> None:
        self.gaps += 1

    def link_closed(self, error: OckamError | None) -> None:
        self.closed = error


class Listening:
    """A listener and the links it made."""

    def __init__(self) -> None:
        self.ends: list[End] = []

    async def start(self, limits: Limits = LIMITS, at: str = "udp:127.0.0.1:0") -> None:
        self.listener: Any = await UdpTransport(limits).listen(Endpoint.parse(at), self._accept)
        self.port = self.listener.endpoint.host_port.port

    def _accept(self, link: Link) -> None:
        end = End(link)
        self.ends.append(end)
        link.start(end)

    @property
    def open(self) -> list[End]:
        return [end for end in self.ends if end.closed == "open"]


class Stranger:
    """A bare socket that sends what it likes."""

    def __init__(self, port: int) -> None:
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.setblocking(False)
        self._socket.connect(("127.0.0.1", port))
        self._number = 0

    def send(self, data: bytes, dialect: Dialect = Dialect.B) -> int:
        """Send a message in small datagrams; how many bytes that took."""
        self._number += 1
        return sum(self.send_raw(datagram) for datagram in split(data, self._number, dialect, 508))

    def send_raw(self, datagram: bytes) -> int:
        return self._socket.send(datagram)

    def received(self) -> list[bytes]:
        found = []
        try:
            while True:
                found.append(self._socket.recv(65_536))
        except BlockingIOError:
            return found

    def close(self) -> None:
        self._socket.close()


@pytest.fixture
async def listening() -> AsyncIterator[Listening]:
    made = Listening()
    yield made
    for end in made.ends:
        end.link.close()
    await made.listener.close()
    await until(lambda: not made.open)


@pytest.fixture
async def stranger(listening: Listening) -> AsyncIterator[Callable[[], Stranger]]:
    made: list[Stranger] = []

    def make() -> Stranger:
        made.append(Stranger(listening.port))
        return made[-1]

    yield make
    for each in made:
        each.close()


async def until(holds: Callable[[], object]) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not holds():
            await asyncio.sleep(0.001)


async def settled(listening: Listening, stranger: Stranger) -> None:
    """Wait until everything sent before has been read: a message of another address comes behind it."""
    count = sum(len(end.came) for end in listening.ends)
    stranger.send(message(b"behind"))
    await until(lambda: sum(len(end.came) for end in listening.ends) > count)


async def test_a_link_begins_with_a_whole_routing_message_and_nothing_less(
    listening: Listening, stranger: Any
) -> None:
    await listening.start()
    halves = stranger()
    halves.send_raw(b"garbage")
    halves.send_raw(encode_piece(Piece(Dialect.B, 1000, 0, 2, message(b"x")[:9])))
    halves.send(b"\x83\x80\x80\x41x")  # no onward route
    halves.send(b"\x83\x81no message")
    halves.send(encode_heartbeat(Heartbeat(Kind.ASK, b"question"), zeros=200))
    await settled(listening, stranger())
    assert len(listening.ends) == 1
    halves.send_raw(encode_piece(Piece(Dialect.B, 1000, 1, 2, message(b"x")[9:])))
    await until(lambda: len(listening.ends) == 2)
    await until(lambda: listening.ends[1].came == [b"x"])


@pytest.mark.parametrize("dialect", Dialect)
async def test_a_peer_is_answered_in_the_dialect_it_used_last(
    listening: Listening, stranger: Any, dialect: Dialect
) -> None:
    await listening.start()
    peer = stranger()
    for used in (dialect, Dialect.B, dialect):
        peer.send(message(b"hello" * 100), used)
        await until(lambda: listening.ends and listening.ends[0].came)
        listening.ends[0].came.clear()
        listening.ends[0].link.send(message(b"answer"), b"")
        answers: list[bytes] = []
        await until(lambda answers=answers: answers.extend(peer.received()) or answers)
        assert {decode_piece(datagram).dialect for datagram in answers} == {used}


async def test_the_dialect_dialled_in_is_b_or_what_the_endpoint_says() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as old:
        old.bind(("127.0.0.1", 0))
        for options, dialect in (((), Dialect.B), ((("dialect", "a"),), Dialect.A)):
            endpoint = Endpoint("udp", f"127.0.0.1:{old.getsockname()[1]}", options)
            link = await UdpTransport(LIMITS).connect(endpoint)
            link.start(End(link))
            link.send(message(b"hello"), b"")
            assert {decode_piece(old.recv(600)).dialect for _ in range(2)} == {dialect}
            link.close()
    with pytest.raises(UsageError, match="neither a nor b"):
        await UdpTransport(LIMITS).connect(Endpoint("udp", "127.0.0.1:9", (("dialect", "c"),)))


@pytest.mark.parametrize("host", ["[::1]", "localhost"])
async def test_ipv6_and_names_are_dialled(listening: Listening, host: str) -> None:
    try:
        await listening.start(at="udp:[::1]:0" if "::" in host else "udp:127.0.0.1:0")
    except UnavailableError:
        await listening.start()
        pytest.skip("this machine has no IPv6 loopback")
    link = await UdpTransport(LIMITS).connect(Endpoint.parse(f"udp:{host}:{listening.port}"))
    link.start(End(link))
    link.send(message(b"x" * 3000), b"")
    await until(lambda: listening.ends and listening.ends[0].came == [b"x" * 3000])
    link.close()


async def test_an_unknown_host_and_port_0_say_so() -> None:
    with pytest.raises(UnavailableError, match="host unknown|failure|resolution"):
        await UdpTransport(LIMITS).connect(Endpoint.parse("udp:no-such-host.invalid:1"))
    with pytest.raises(UsageError, match="port 0"):
        await UdpTransport(LIMITS).connect(Endpoint.parse("udp:127.0.0.1:0"))


async def test_without_an_advance_a_stranger_never_gets_more_than_it_sent(
    listening: Listening, stranger: Any
) -> None:
    await listening.start(dataclasses.replace(LIMITS, datagram_advance_bytes_per_s=0))
    peer = stranger()
    sent = peer.send(message(bytes(30), "me"))
    await until(lambda: listening.ends)
    for _ in range(50):
        listening.ends[0].link.send(message(b"", "you"), b"")
    await settled(listening, stranger())
    assert 0 < sum(map(len, peer.received())) <= sent


async def test_questions_of_strangers_are_answered_shorter_and_leave_nothing(
    listening: Listening, stranger: Any
) -> None:
    await listening.start()
    peer = stranger()
    sizes = [peer.send(encode_heartbeat(Heartbeat(Kind.ASK, b"question"), zeros=zeros)) for zeros in (0, 200)]
    await settled(listening, stranger())
    answers = peer.received()
    assert len(answers) == 1, "the first question was too short to be answered"
    assert len(answers[0]) <= sizes[1]
    assert len(listening.ends) == 1


async def test_our_nodes_use_larger_datagrams_and_strangers_get_small_ones(
    listening: Listening, stranger: Any
) -> None:
    await listening.start()
    link: Any = await UdpTransport(LIMITS).connect(Endpoint.parse(f"udp:127.0.0.1:{listening.port}"))
    link.start(End(link))
    link.send(message(b"first"), b"")
    await until(lambda: link.path.datagram_bytes > 16_000)
    link.close()
    peer = stranger()
    for _ in range(10):
        peer.send(message(bytes(2000)))
    await until(lambda: len(listening.ends) == 2 and len(listening.ends[1].came) == 10)
    listening.ends[1].link.send(message(bytes(20_000)), b"")
    await settled(listening, stranger())
    assert max(map(len, peer.received())) <= 508


async def test_links_are_bounded_and_the_longest_idle_gives_way(listening: Listening, stranger: Any) -> None:
    await listening.start(dataclasses.replace(LIMITS, datagram_peers=3))
    peers = [stranger() for _ in range(5)]
    for number, peer in enumerate(peers[:3]):
        peer.send(message(b"%d" % number))
        await until(lambda number=number: len(listening.ends) == number + 1)
    peers[0].send(message(b"again"))
    await until(lambda: len(listening.ends[0].came) == 2)
    for number, peer in enumerate(peers[3:], 3):
        peer.send(message(b"%d" % number))
        await until(lambda number=number: len(listening.ends) == number + 1)
    await until(lambda: len(listening.open) == 3)
    assert [end.closed == "open" for end in listening.ends] == [True, False, False, True, True]
    assert "needed its place" in str(listening.ends[1].closed)


async def test_strangers_do_not_displace_a_peer_that_is_proven(listening: Listening, stranger: Any) -> None:
    await listening.start(dataclasses.replace(LIMITS, datagram_peers=1))
    link: Any = await UdpTransport(LIMITS).connect(Endpoint.parse(f"udp:127.0.0.1:{listening.port}"))
    here = End(link)
    link.start(here)
    link.send(message(b"first"), b"")
    await until(lambda: listening.ends and listening.ends[0].link.path.is_proven)  # type: ignore[attr-defined]
    for _ in range(20):
        stranger().send(message(b"make place"))
    link.send(message(b"second"), b"")
    await until(lambda: listening.ends[0].came == [b"first", b"second"])
    assert len(listening.ends) == 1
    link.close()


async def test_a_flood_of_first_pieces_fills_no_memory_and_stops_nobody(
    listening: Listening, stranger: Any
) -> None:
    limits = dataclasses.replace(LIMITS, datagram_unproven_pending_bytes=100_000)
    await listening.start(limits)
    port = listening.listener._port
    for number in range(30):
        flooder = stranger()
        for piece in range(50):
            flooder.send_raw(encode_piece(Piece(Dialect.B, 50 * number + piece, 0, 60_000, bytes(490))))
        await settled(listening, stranger())
        assert port._strangers.pending_bytes <= 100_000
        assert port._known.pending_bytes == 0
    assert len(listening.ends) == 30


async def test_an_accepted_link_that_is_idle_ends(listening: Listening, stranger: Any) -> None:
    await listening.start(dataclasses.replace(LIMITS, datagram_idle_s=0.05))
    stranger().send(message(b"once"))
    await until(lambda: listening.ends and listening.ends[0].closed != "open")
    assert isinstance(listening.ends[0].closed, LinkBrokenError)
    assert "nothing came" in str(listening.ends[0].closed)


async def test_a_bye_or_an_answer_of_somebody_else_ends_and_changes_nothing(
    listening: Listening, stranger: Any
) -> None:
    await listening.start()
    peer = stranger()
    peer.send(message(b"first"))
    await until(lambda: listening.ends)
    for kind in (Kind.BYE, Kind.ANSWER):
        peer.send(encode_heartbeat(Heartbeat(kind, bytes(8), bytes(8), b"whatever", 508, 1)))
    peer.send(message(b"second"))
    await until(lambda: listening.ends[0].came == [b"first", b"second"])
    assert not listening.ends[0].link.path.is_proven  # type: ignore[attr-defined]


async def test_who_has_a_udp_port_is_said() -> None:
    holds = "import socket, sys; s = socket.socket(type=socket.SOCK_DGRAM); s.bind(('127.0.0.1', 0)); "
    says = "print(s.getsockname()[1], flush=True); sys.stdin.read()"
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", holds + says, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert process.stdout is not None
    port = int(await process.stdout.readline())
    held = rf"cannot listen at udp:127.0.0.1:{port}: UDP port {port} is in use by \S+ \(pid {process.pid}\)"
    with pytest.raises(UnavailableError, match=held) as raised:
        await UdpTransport(LIMITS).listen(Endpoint.parse(f"udp:127.0.0.1:{port}"), lambda _: None)
    assert "another port" in raised.value.hint
    await process.communicate(b"that is all")


@pytest.mark.parametrize(("everywhere", "asked"), [("0.0.0.0", "127.0.0.2"), ("[::]", "[::1]")])
async def test_who_listens_everywhere_answers_from_the_address_it_was_asked_at(
    listening: Listening, everywhere: str, asked: str
) -> None:
    try:
        await listening.start(at=f"udp:{everywhere}:0")
    except UnavailableError:
        await listening.start()
        pytest.skip("this machine has no IPv6")
    link: Any = await UdpTransport(LIMITS).connect(Endpoint.parse(f"udp:{asked}:{listening.port}"))
    here = End(link)
    link.start(here)
    link.send(message(b"question"), b"")
    await until(lambda: listening.ends and listening.ends[0].came)
    listening.ends[0].link.send(message(b"answer" * 1000), b"")
    await until(lambda: here.came == [b"answer" * 1000])
    assert link.path.speaks_heartbeats, "its questions were answered as well"
    link.close()


async def test_one_port_that_asks_at_two_addresses_of_ours_has_two_links(listening: Listening) -> None:
    await listening.start(at="udp:0.0.0.0:0")
    with socket.socket(type=socket.SOCK_DGRAM) as peer:
        peer.bind(("127.0.0.1", 0))
        peer.setblocking(False)
        for number, asked in enumerate(("127.0.0.1", "127.0.0.2")):
            for datagram in split(message(b"to " + asked.encode()), number, Dialect.B, 508):
                peer.sendto(datagram, (asked, listening.port))
        await until(lambda: len(listening.ends) == 2)
        for end in listening.ends:
            end.link.send(message(end.came[0][3:]), b"")
        answers: dict[bytes, str] = {}

        def both() -> bool:
            try:
                data, (host, _) = peer.recvfrom(600)
            except BlockingIOError:
                return False
            answers[bytes(decode_message(decode_piece(data).data)[2])] = host
            return len(answers) == 2

        await until(both)
    assert answers == {b"127.0.0.1": "127.0.0.1", b"127.0.0.2": "127.0.0.2"}
