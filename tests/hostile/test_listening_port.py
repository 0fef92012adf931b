"""Anything at all sent to a listening port: it costs the sender its link at most, and the node nothing."""

from __future__ import annotations

import asyncio
import dataclasses
import itertools
import random
import socket
import struct
from typing import TYPE_CHECKING, Any

import pytest

from ockamlite.cbor import bytes_head
from ockamlite.limits import LIMITS
from ockamlite.node import Node
from ockamlite.routing.address import Address
from ockamlite.routing.codec import decode_message, encode_message_head
from ockamlite.routing.route import Route
from ockamlite.secure_channels.trust import TrustEveryone
from ockamlite.vault.primitives import x25519_exchange, x25519_from_secret, x25519_public

if TYPE_CHECKING:
    from collections.abc import Iterator

TLS_HELLO = bytes.fromhex("16030100c8010000c40303") + bytes(range(200))
HTTP = b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"


def framed(*bodies: bytes) -> bytes:
    return b"\x01" + b"".join(struct.pack(">I", len(body)) + body for body in bodies)


def message(onward: Route, back: Route, payload: bytes = b"") -> bytes:
    return encode_message_head(onward, back) + bytes_head(len(payload)) + payload


@pytest.mark.parametrize("data", [TLS_HELLO, HTTP, b"SSH-2.0-x\r\n", b"\x00" * 100, b"\xff" * 100], ids=repr)
async def test_another_protocol_is_closed_and_the_next_client_served(exposed: Any, data: bytes) -> None:
    assert await exposed.feed(data) in (b"\x01", b"")
    await exposed.no_links()
    assert await exposed.serves()


@pytest.mark.parametrize("seed", range(40))
async def test_random_bytes_do_nothing(exposed: Any, seed: int) -> None:
    chance = random.Random(seed)
    noise = chance.randbytes(chance.randrange(1, 5000))
    await exposed.feed(noise)
    await exposed.feed(b"\x01" + noise)
    await exposed.feed(framed(noise))
    await exposed.feed(framed(*(noise[n : n + 40] for n in range(0, len(noise), 40))))
    await exposed.no_links()
    assert len(exposed.node.router) == 3
    if seed % 8 == 0:
        assert await exposed.serves()


@pytest.mark.parametrize(
    "body",
    [
        b"\x80",
        b"\x83\x80\x80\x40",
        b"\x83\x81\x82\x00\x44echo\x80\x40",
        b"\x9f" * 10_000,
        b"\x9b" + b"\xff" * 8,
        b"\x83\x9b" + b"\xff" * 8,
        b"\x83\x81\x82\x00\x5b" + b"\xff" * 8,
        b"\xc6" * 5_000,
        b"\x83\x81\x82\xf5\x44echo\x80\x40",
        b"\x83\x81\x82\x19\x01\x00\x44echo\x80\x40",
        b"\xfb" + b"\x7f\xf8" + bytes(6),
        b"\x83\x81\x82\x00\x44echo\x81\x82\x00\x41x\x5f\x41a\x41b\xff",
    ],
    ids=lambda body: body[:12].hex(),
)
async def test_strange_cbor_in_a_frame_is_ignored_and_the_link_goes_on(exposed: Any, body: bytes) -> None:
    back = await exposed.feed(framed(body, message(Route.of("echo"), Route.of("alive"), b"still")))
    assert b"alive" in back
    assert b"still" in back


async def test_half_a_frame_and_silence_end_the_link_in_time(
    exposed: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("transports.tcp._FRAME_TIMEOUT_S", 0.2)
    reader, writer = await exposed.raw()
    writer.write(framed(b"x" * 100)[:50])
    assert await reader.read() == b"\x01"
    writer.close()
    await exposed.no_links()
    assert await exposed.serves()


async def test_a_byte_now_and_then_does_not_keep_a_frame_open(
    exposed: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("transports.tcp._FRAME_TIMEOUT_S", 0.2)
    reader, writer = await exposed.raw()
    writer.write(b"\x01\x00\x00\xff\xff")
    loop = asyncio.get_running_loop()
    dripping: asyncio.TimerHandle | None = None

    def drip() -> None:
        nonlocal dripping
        writer.write(b"\x00")
        dripping = loop.call_later(0.02, drip)

    drip()
    try:
        assert await reader.read() == b"\x01"
    except ConnectionError:
        pass
    assert dripping is not None
    dripping.cancel()
    writer.close()
    await exposed.no_links()
    assert await exposed.serves()


async def test_who_says_nothing_is_closed(with_limits: Any) -> None:
    exposed = await with_limits(dataclasses.replace(LIMITS, link_hello_s=0.1))
    silent = [await exposed.raw() for _ in range(20)]
    assert await exposed.serves()
    for reader, writer in silent:
        assert await reader.read() == b"\x01"
        writer.close()


async def test_who_never_reads_is_held_and_then_given_up_and_others_are_served(with_limits: Any) -> None:
    exposed = await with_limits(dataclasses.replace(LIMITS, link_stall_s=0.3))
    asked = framed(*[message(Route.of("echo"), Route.of("x"), bytes(60_000))] * 50)

    def ask_and_never_read() -> socket.socket:
        lazy = socket.create_connection(("127.0.0.1", exposed.port))
        lazy.setblocking(False)
        return lazy

    lazy = ask_and_never_read()
    loop = asyncio.get_running_loop()

    async def push() -> None:
        await loop.sock_sendall(lazy, asked)
        while True:
            await loop.sock_sendall(lazy, asked[1:])

    pushing = asyncio.ensure_future(push())
    while not exposed.listener.links:
        await asyncio.sleep(0)
    (link,) = exposed.listener.links
    assert await exposed.serves()
    assert "took nothing" in await link.closed
    await asyncio.wait([pushing])
    assert isinstance(pushing.exception(), ConnectionError)
    lazy.close()
    assert await exposed.serves()


async def test_long_frames_begun_and_left_have_bounded_room_and_others_are_served(with_limits: Any) -> None:
    limits = dataclasses.replace(LIMITS, long_frames_bytes=4 * 1024 * 1024)
    exposed = await with_limits(limits)
    greedy = []
    refused = 0
    for _ in range(12):
        reader, writer = await exposed.raw()
        writer.write(b"\x01" + struct.pack(">I", limits.message_bytes) + bytes(1_000_000))
        greedy.append((reader, writer))
    for reader, _ in greedy:
        try:
            await asyncio.wait_for(reader.readexactly(2), 0.2)
        except (asyncio.IncompleteReadError, ConnectionError):
            refused += 1
        except TimeoutError:
            pass
    assert refused >= 8
    assert await exposed.serves()
    for _, writer in greedy:
        writer.close()
    await exposed.no_links()
    shared = exposed.node._transports["tcp"]._links._shared
    assert shared.room == limits.long_frames_bytes


async def test_long_frames_in_small_pieces_arrive_whole(exposed: Any) -> None:
    body = random.Random(1).randbytes(3_000_000)
    reader, writer = await exposed.raw()
    stream = framed(
        message(Route.of("echo"), Route.of("x"), body), message(Route.of("echo"), Route.of("x"), b"next")
    )
    for at in range(0, len(stream), 7_777):
        writer.write(stream[at : at + 7_777])
        await writer.drain()
    await reader.readexactly(1)
    for expected in (body, b"next"):
        length = struct.unpack(">I", await reader.readexactly(4))[0]
        assert bytes(decode_message(await reader.readexactly(length))[2]) == expected
    writer.close()


async def test_a_flood_to_unknown_addresses_leaves_no_trace_and_a_short_log(
    exposed: Any, caplog: pytest.LogCaptureFixture
) -> None:
    reader, writer = await exposed.raw()
    writer.write(b"\x01")
    for first in range(0, 20_000, 100):
        writer.write(
            framed(
                *(
                    message(Route.of(f"nobody-{n}", "x"), Route.of(f"back-{n}"), b"?")
                    for n in range(first, first + 100)
                )
            )[1:]
        )
        await writer.drain()
        if first == 10_000:
            assert await exposed.serves()
    writer.write(framed(message(Route.of("echo"), Route.of("end")))[1:])
    await reader.readexactly(5)
    (link,) = exposed.listener.links
    assert exposed.node.router.dropped == 20_000
    assert len(exposed.node.router) == 4
    assert len(link._memory._heads) <= link._memory.MOST_HEADS
    assert len(link.flow.consumers) == 0
    assert sum("dropped" in record.getMessage() for record in caplog.records) < 20
    writer.close()


@pytest.mark.parametrize("links", [1, 25])
async def test_w1_handshakes_begun_and_abandoned_leave_flat_tables_while_an_honest_one_succeeds(
    exposed: Any, links: int
) -> None:
    floods = [await exposed.raw() for _ in range(links)]
    keys = random.Random(3)
    before = len(exposed.node.router)
    each = 2000 // links
    for number, (_, writer) in enumerate(floods):
        firsts = [message(Route.of("api"), Route.of("x"), keys.randbytes(32)) for _ in range(each)]
        writer.write(framed(*firsts, message(Route.of("echo"), Route.of("end"))))
        if number == links // 2:
            assert await exposed.serves()
    for reader, _ in floods:
        await reader.readuntil(b"\x82\x00\x43end")
    most = min(LIMITS.pending_handshakes, links * LIMITS.pending_handshakes_per_source)
    assert len(exposed.channels._pending) <= most
    assert len(exposed.node.router) <= before + links + most + 8
    assert await exposed.serves()
    for _, writer in floods:
        writer.close()
    await exposed.no_links()


async def test_links_opened_and_dropped_by_the_hundred_leave_nothing(exposed: Any) -> None:
    for _ in range(10):
        connections = [await exposed.raw() for _ in range(50)]
        for number, (_, writer) in enumerate(connections):
            if number % 3 == 0:
                writer.write(b"\x01")
            if number % 7 == 0:
                writer.transport.abort()
            else:
                writer.close()
        await exposed.no_links()
    assert len(exposed.node.router) == 3
    assert not exposed.node._links
    assert await exposed.serves()


# -- a recorded session, spoiled -------------------------------------------------------------------


class FixedKey:
    """An X25519 key pair whose secret the test chose."""

    def __init__(self, secret: bytes) -> None:
        self._key = x25519_from_secret(secret)
        self.public = x25519_public(self._key)

    def exchange(self, public: bytes) -> bytes:
        return x25519_exchange(self._key, public)


class Chance:
    """Gives a node the same addresses and ephemeral keys again and again, so that a recording fits."""

    def __init__(self, node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
        self._router = node.router
        monkeypatch.setattr(self._router, "add_random", self._add)
        monkeypatch.setattr(
            "ockamlite.secure_channels.handshake.ephemeral_dh_key",
            lambda: FixedKey(b"ephemeral key of the test" + bytes(7)),
        )

    def restart(self) -> None:
        self._numbers: Iterator[int] = itertools.count()

    def _add(self, handler: Any, *, flow: Any = None) -> Address:
        address = Address.local(f"random-{next(self._numbers):05}")
        self._router.add(address, handler, flow=flow)
        return address


class Recorder:
    """Stands between a client and a server and keeps what the client sends."""

    def __init__(self, port: int) -> None:
        self.sent = bytearray()
        self._port = port
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Recorder:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port: int = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *error: object) -> None:
        self._server.close()
        await asyncio.gather(*self._tasks)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        server_reader, server_writer = await asyncio.open_connection("127.0.0.1", self._port)

        async def pump(
            source: asyncio.StreamReader, sink: asyncio.StreamWriter, keep: bytearray | None
        ) -> None:
            try:
                while data := await source.read(65_536):
                    if keep is not None:
                        keep += data
                    sink.write(data)
            finally:
                sink.close()

        self._tasks += [
            asyncio.ensure_future(pump(reader, server_writer, self.sent)),
            asyncio.ensure_future(pump(server_reader, writer, None)),
        ]


async def recorded_session(exposed: Any) -> bytes:
    """What a client sends that opens a channel and asks twice."""
    async with Recorder(exposed.port) as recorder, Node() as client:
        link = await client.connect(f"tcp:127.0.0.1:{recorder.port}")
        channel = await client.secure_channel(link.route / "api", trust=TrustEveryone())
        await channel.confirmed
        for _ in range(2):
            assert (await client.ask(channel.route / "uppercase", "hi")).text == "HI"
    return bytes(recorder.sent)


async def replay(exposed: Any, session: bytes) -> None:
    """Play a session to the node; what it left unfinished is forgotten, as the time would."""
    await exposed.feed(session)
    await exposed.no_links()
    for pending in tuple(exposed.channels._pending.values()):
        exposed.channels._drop(pending)


async def test_every_byte_of_a_session_spoiled_once_harms_nobody(
    exposed: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    chance = Chance(exposed.node, monkeypatch)
    chance.restart()
    session = await recorded_session(exposed)
    await exposed.no_links()
    assert len(session) > 800
    opened: list[object] = []
    adopt = exposed.node._channels.adopt
    monkeypatch.setattr(exposed.node._channels, "adopt", lambda *args: (opened.append(args[0]), adopt(*args)))
    chance.restart()
    await replay(exposed, session)
    assert len(opened) == 1
    flips = random.Random(7)
    for at in range(len(session)):
        chance.restart()
        spoiled = bytes((session[at] ^ (1 << flips.randrange(8)),))
        await replay(exposed, session[:at] + spoiled + session[at + 1 :])
    # Spoiled behind the handshake, the channel still opened: the recording did reach that deep.
    assert 100 < len(opened) < len(session)
    assert len(exposed.node.router) == 3
    assert not exposed.channels.channels
    monkeypatch.undo()
    assert await exposed.serves()


async def test_a_session_cut_anywhere_harms_nobody(exposed: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    chance = Chance(exposed.node, monkeypatch)
    chance.restart()
    session = await recorded_session(exposed)
    await exposed.no_links()
    for end in range(0, len(session), 7):
        chance.restart()
        await replay(exposed, session[:end])
    assert not exposed.channels.channels
    monkeypatch.undo()
    assert await exposed.serves()


async def test_a_whole_session_played_again_opens_no_channel(exposed: Any) -> None:
    async with Recorder(exposed.port) as recorder, Node() as client:
        link = await client.connect(f"tcp:127.0.0.1:{recorder.port}")
        channel = await client.secure_channel(link.route / "api", trust=TrustEveryone())
        await channel.confirmed
    await exposed.no_links()
    for _ in range(20):
        await exposed.feed(bytes(recorder.sent))
    await exposed.no_links()
    assert not exposed.channels.channels
    assert await exposed.serves()


async def test_one_who_hardly_reads_keeps_nobody_else_from_what_is_behind_a_relay() -> None:
    limits = dataclasses.replace(LIMITS, link_hold_s=0.2)
    async with Node(limits=limits) as relay, Node() as gateway, Node() as bob:
        listener = await relay.listen("tcp:127.0.0.1:0")
        relay.relay_service(open_to=[listener.flow])
        await gateway.register(gateway.path(str(listener.endpoint)), name="pi").registered()
        there = (await bob.connect(listener.endpoint)).route / "forward_to_pi" / "echo"
        await bob.ask(there, b"before")
        loop = asyncio.get_running_loop()
        lazy = socket.create_connection(("127.0.0.1", listener.endpoint.host_port.port))
        lazy.setblocking(False)
        asked = framed(*[message(Route.of("forward_to_pi", "echo"), Route.of("x"), bytes(40_000))] * 100)

        async def push() -> None:
            await loop.sock_sendall(lazy, asked)
            while True:
                await loop.sock_sendall(lazy, asked[1:])

        pushing = asyncio.ensure_future(push())
        while relay.router.excess_bytes < limits.link_excess_bytes:
            await bob.ask(there, b"meanwhile", timeout_s=3)
        for _ in range(10):
            await bob.ask(there, b"at last", timeout_s=1)
        assert len(listener.links) == 3
        pushing.cancel()
        lazy.close()
