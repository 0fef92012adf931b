"""The relay's side: who gets which name, for how long, and what nobody gets."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest

from ockamlite import bare
from ockamlite.routing.address import Address
from ockamlite.routing.message import Flow, Message
from ockamlite.routing.route import Route
from ockamlite.secure_channels.trust import TrustEveryone, TrustIdentifiers

STATIC = Route.of("static_forwarding_service")
RANDOM = Route.of("forwarding_service")


async def test_a_static_name_is_registered_byte_for_byte(relay: Any, raw: Any) -> None:
    peer = await raw((await relay()).port)
    peer.send(STATIC, Route.of("r1"), bytes.fromhex("03626f62"))
    assert (await peer.frame()).hex() == (
        "83" + "81820042" + "7231"  # to r1
        "8182004e" + b"forward_to_bob".hex()  # from the relay's address
        + "4f" + "0e666f72776172645f746f5f626f62"
    )  # fmt: skip


async def test_a_random_name_is_made_up_as_rust_does(relay: Any, raw: Any) -> None:
    peer = await raw((await relay()).port)
    names = set()
    for _ in range(2):
        peer.send(RANDOM, Route.of("r1"), bytes.fromhex("087265676973746572"))
        onward, back, payload = await peer.receive()
        name = bare.decode_str(payload)
        assert onward == Route.of("r1")
        assert back == Route.of(name)
        assert len(name) == len("forward_to_") + 32
        int(name.removeprefix("forward_to_"), 16)
        names.add(name)
    assert len(names) == 2


async def test_what_comes_to_a_name_goes_on_along_the_route_of_its_registration(relay: Any, raw: Any) -> None:
    port = (await relay()).port
    gateway, client = await raw(port), await raw(port)
    gateway.send(STATIC, Route.of("hop", "r1"), bare.encode_str("pi"))
    await gateway.receive()
    client.send(Route.of("forward_to_pi", "api", "more"), Route.of("c1"), b"hello")
    onward, back, payload = await gateway.receive()
    assert onward == Route.of("hop", "api", "more")  # the registrant's own address is taken off
    assert (back[1:], payload) == (Route.of("c1"), b"hello")
    gateway.send(Route(back), Route.of("api"), b"answer")
    onward, back, payload = await client.receive()
    assert (onward, payload) == (Route.of("c1"), b"answer")
    assert Address.local("forward_to_pi") not in back
    client.send(Route((*back,)), Route.of("c1"), b"again")  # without the name, along what the answer came
    assert (await gateway.receive())[2] == b"again"


async def test_a_repeated_registration_refreshes_and_takes_the_new_route(relay: Any, raw: Any) -> None:
    found = await relay(relays_per_peer=1)
    gateway, client = await raw(found.port), await raw(found.port)
    before = len(found.host.router)
    for hop in ("old", "new"):
        gateway.send(STATIC, Route.of(hop, "r1"), bare.encode_str("pi"))
        assert (await gateway.receive())[2] == bare.encode_str("forward_to_pi")
    assert len(found.host.router) == before + 1
    client.send(Route.of("forward_to_pi", "api"), Route.of("c1"), b"x")
    assert (await gateway.receive())[0] == Route.of("new", "api")


async def test_a_name_registered_in_clear_belongs_to_whoever_registers_it_anew(relay: Any, raw: Any) -> None:
    found = await relay()
    one, other, client = [await raw(found.port) for _ in range(3)]
    for peer in (one, other):
        await peer.ask(STATIC, bare.encode_str("pi"))
    client.send(Route.of("forward_to_pi", "api"), Route.of("c1"), b"x")
    assert (await other.receive())[2] == b"x"
    one.writer.close()  # its end does not end the registration that followed
    await one.writer.wait_closed()
    await other.settle()
    client.send(Route.of("forward_to_pi", "api"), Route.of("c1"), b"y")
    assert (await other.receive())[2] == b"y"


async def channel_to(host: Any, relay: Any, *, over: Any = None) -> Any:
    link = over or await host.connect(relay.at)
    channel = await host.secure_channel(link.route / "secure_channel_listener", trust=TrustEveryone())
    await channel.confirmed
    return channel


async def register(host: Any, channel: Any, name: str) -> Any:
    return await host.ask(channel.route / "static_forwarding_service", name, timeout_s=5.0)


async def test_a_name_registered_through_a_channel_is_kept_for_its_identity(
    net: Any, relay: Any, raw: Any, until: Any
) -> None:
    found = await relay()
    channels = found.host.secure_channel_listener(trust=TrustEveryone())
    found.host.open(channels.address, found.listener)
    found.service.open_to(channels.flow)
    owner, stranger = await net.node(), await net.node()
    first = await channel_to(owner, found)
    assert (await register(owner, first, "pi")).text == "forward_to_pi"
    # Neither another identity nor somebody in clear gets it,
    other = await channel_to(stranger, found)
    task = asyncio.ensure_future(register(stranger, other, "pi"))
    refused = await found.host.event("refused")
    assert refused.peer == str(stranger.identity.identifier)
    assert str(owner.identity.identifier) in refused.reason
    task.cancel()
    peer = await raw(found.port)
    peer.send(STATIC, Route.of("r1"), bare.encode_str("pi"))
    assert (await found.host.event("refused", 2)).peer is None
    # but the same identity does, over another link, while the old one is still there.
    second = await channel_to(owner, found)
    assert (await register(owner, second, "pi")).text == "forward_to_pi"
    relay_ = found.service._relays[Address.local("forward_to_pi")]
    first.close()
    await owner.ask(second.route / "echo", b"x")
    assert found.service._relays[Address.local("forward_to_pi")] is relay_
    # When its channel ends, the name is free.
    second.close()
    await until(lambda: not found.service._relays)
    peer.send(STATIC, Route.of("r1"), bare.encode_str("pi"))
    assert (await peer.receive())[2] == bare.encode_str("forward_to_pi")


async def test_a_name_never_replaces_what_is_not_a_relay(relay: Any, raw: Any) -> None:
    found = await relay()
    came = asyncio.Event()

    async def worker(context: Any, message: Any) -> None:
        came.set()

    found.host.start_worker("forward_to_mine", worker)
    peer = await raw(found.port)
    peer.send(STATIC, Route.of("r1"), bare.encode_str("mine"))
    assert "address of something else" in (await found.host.event("refused")).reason
    context = found.host.context()
    await context.send("forward_to_mine", b"still there")
    await came.wait()
    assert await peer.ask(STATIC, bare.encode_str("echo")) == bare.encode_str("forward_to_echo")
    await peer.settle()  # 'echo' answers as before


@pytest.mark.parametrize(
    "payload",
    [bare.encode_str(name) for name in ("", "a#b", "a b", "a,b", "x" * 129, "ü")]
    + [b"", b"\x05ab", b"\xff\xff", b"\x02\xff\xfe"],
)
async def test_what_is_no_name_is_refused_and_the_link_stays(relay: Any, raw: Any, payload: bytes) -> None:
    found = await relay()
    peer = await raw(found.port)
    peer.send(STATIC, Route.of("r1"), payload)
    await peer.settle()
    assert len(found.host.events("refused")) == 1
    assert not found.service._relays


async def test_a_peer_has_a_bounded_number_of_names(net: Any, relay: Any, raw: Any) -> None:
    found = await relay(relays_per_peer=2)
    peer, other = await raw(found.port), await raw(found.port)
    for name in ("a", "b"):
        await peer.ask(STATIC, bare.encode_str(name))
    await other.ask(STATIC, bare.encode_str("o"))
    for name in ("c", "o"):
        peer.send(STATIC, Route.of("r1"), bare.encode_str(name))
        await peer.settle()
    assert len(found.host.events("refused")) == 2
    assert {a.name for a in found.service._relays} == {"forward_to_a", "forward_to_b", "forward_to_o"}
    assert await peer.ask(STATIC, bare.encode_str("a")) == bare.encode_str("forward_to_a")
    assert found.service._relays[Address.local("forward_to_o")].flow.closed is None


async def test_an_identity_has_a_bounded_number_of_names_over_all_its_channels(net: Any, relay: Any) -> None:
    found = await relay(relays_per_peer=2)
    channels = found.host.secure_channel_listener(trust=TrustEveryone())
    found.host.open(channels.address, found.listener)
    found.service.open_to(channels.flow)
    host = await net.node()
    one, two = await channel_to(host, found), await channel_to(host, found)
    await register(host, one, "a")
    await register(host, two, "b")
    task = asyncio.ensure_future(register(host, two, "c"))
    assert "as many registrations as it may" in (await found.host.event("refused")).reason
    task.cancel()
    await register(host, two, "a")  # its own, moved from one channel to the other


async def test_a_relay_has_a_bounded_number_of_names(relay: Any, raw: Any) -> None:
    found = await relay(relays=1)
    peer, other = await raw(found.port), await raw(found.port)
    await peer.ask(STATIC, bare.encode_str("a"))
    other.send(RANDOM, Route.of("r1"), bare.encode_str("register"))
    await other.settle()
    assert "as many registrations as it takes" in (await found.host.event("refused")).reason
    peer.writer.close()
    await peer.writer.wait_closed()
    await other.ask(Route.of("echo"), b"x")
    assert await other.ask(STATIC, bare.encode_str("a")) == bare.encode_str("forward_to_a")


async def test_a_thousand_refused_registrations_are_ten_lines_and_ten_events(
    net: Any, relay: Any, raw: Any, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    found = await relay(may_register=lambda peer: False)
    peer = await raw(found.port)
    for _ in range(1000):
        peer.send(STATIC, Route.of("r1"), bare.encode_str("pi"))
    await peer.settle()
    said = [text for record in caplog.records if "refused" in (text := record.getMessage())]
    assert [text.rpartition("(")[2] for text in said] == [f"{2**n} so far)" for n in range(10)]
    assert len(found.host.events("refused")) == 10
    # Somebody who shows who he is gets a line of his own.
    channels = found.host.secure_channel_listener(trust=TrustEveryone())
    found.host.open(channels.address, found.listener)
    found.service.open_to(channels.flow)
    known = await net.node()
    task = asyncio.ensure_future(register(known, await channel_to(known, found), "pi"))
    assert (await found.host.event("refused", 11)).peer == str(known.identity.identifier)
    task.cancel()


async def test_two_that_take_a_name_from_each_other_for_ever_fill_no_log(
    relay: Any, raw: Any, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    found = await relay()
    one, other = await raw(found.port), await raw(found.port)
    for _ in range(200):
        for peer in (one, other):
            await peer.ask(STATIC, bare.encode_str("pi"))
    said = [record for record in caplog.records if "forward_to_pi" in record.getMessage()]
    assert len(said) == 1 + 2 * 9


async def test_only_those_who_may_register_through_a_channel(net: Any, relay: Any, raw: Any) -> None:
    member, stranger = await net.node(), await net.node()
    found = await relay(may_register=TrustIdentifiers(member.identity.identifier))
    channels = found.host.secure_channel_listener(trust=TrustEveryone())
    found.host.open(channels.address, found.listener)
    found.service.open_to(channels.flow)
    assert (await register(member, await channel_to(member, found), "pi")).text == "forward_to_pi"
    channel = await channel_to(stranger, found)
    task = asyncio.ensure_future(register(stranger, channel, "po"))
    assert "not among those" in (await found.host.event("refused")).reason
    task.cancel()
    peer = await raw(found.port)
    peer.send(STATIC, Route.of("r1"), bare.encode_str("pu"))
    await peer.settle()
    assert len(found.host.events("refused")) == 2
    assert len(found.service._relays) == 1


async def test_registrations_end_with_their_link(relay: Any, raw: Any, until: Any) -> None:
    found = await relay()
    before = len(found.host.router)
    peer = await raw(found.port)
    for name in ("a", "b"):
        await peer.ask(STATIC, bare.encode_str(name))
    assert len(found.service._relays) == 2
    peer.writer.transport.abort()
    await until(lambda: not found.service._relays and len(found.host.router) == before)


async def conversation(found: Any, raw: Any) -> tuple[Any, Any, Route, Route]:
    """A gateway and a client that know the way to each other without the name; the two, and the ways."""
    gateway, client = await raw(found.port), await raw(found.port)
    await gateway.ask(STATIC, bare.encode_str("pi"))
    client.send(Route.of("forward_to_pi", "api"), Route.of("c1"), b"hello")
    _, to_client, _ = await gateway.receive()
    gateway.send(to_client, Route.of("api"), b"answer")
    _, to_gateway, _ = await client.receive()
    return gateway, client, to_gateway, to_client


async def test_a_relay_that_was_closed_forwards_nothing_along_ways_that_it_opened(
    relay: Any, raw: Any
) -> None:
    found = await relay()
    gateway, client, to_gateway, to_client = await conversation(found, raw)
    found.service.close()
    client.send(to_gateway, Route.of("c1"), b"x")
    gateway.send(to_client, Route.of("api"), b"y")
    for _ in range(2):  # each has had its turn before the other is known to have got nothing
        await client.settle()
        await gateway.settle()
    assert found.host.router.dropped == 2


async def test_a_name_that_is_taken_over_does_not_cut_what_is_under_way(
    relay: Any, raw: Any, until: Any
) -> None:
    found = await relay()
    gateway, client, to_gateway, _ = await conversation(found, raw)
    other = await raw(found.port)
    await other.ask(STATIC, bare.encode_str("pi"))
    client.send(to_gateway, Route.of("c1"), b"still there?")
    assert (await gateway.receive())[2] == b"still there?"
    gateway.writer.transport.abort()
    await until(lambda: len(found.service._talks) == 1)
    await until(lambda: len(found.listener.links) == 2)
    client.send(to_gateway, Route.of("c1"), b"gone")
    await client.settle()


async def test_who_has_hung_up_registers_nothing(relay: Any, raw: Any) -> None:
    found = await relay()
    before = len(found.host.router)
    flow = Flow("gone", address=Address.local("gone"))
    found.host.open(found.service.addresses[0], flow)
    flow.close("hung up")
    message = Message(STATIC, Route.of("gone", "r1"), bare.encode_str("pi"), flow)
    assert found.service._register(message) is None
    assert len(found.host.router) == before
    assert not found.service._relays


async def test_places_of_names_are_free_again_when_the_names_end(relay: Any, raw: Any, until: Any) -> None:
    found = await relay(relays_per_peer=2)
    for _ in range(2):
        peer = await raw(found.port)
        for name in ("a", "b"):
            await peer.ask(STATIC, bare.encode_str(name))
        peer.writer.transport.abort()
        await until(lambda: not found.service._relays)
    assert not found.host.events("refused")
    assert not found.service._held


# -- what crafted routes reach ---------------------------------------------------------------------


async def test_a_registration_without_an_address_of_its_own_opens_nothing_of_the_relay(
    relay: Any, raw: Any
) -> None:
    found = await relay()
    came: list[Any] = []
    found.host.router.add(Address.local("secret"), came.append)
    peer = await raw(found.port)
    peer.send(STATIC, Route(), bare.encode_str("evil"))
    peer.send(Route.of("forward_to_evil", "secret"), Route.of("me"), b"x")
    await peer.settle()
    assert not came
    assert "from an address there" in (await found.host.event("refused")).reason


async def test_clients_reach_nothing_that_was_not_offered(relay: Any, raw: Any, registered: Any) -> None:
    found = await relay()
    gateway, remote = await registered(found)
    came: list[Any] = []
    for host in (found.host, gateway):
        host.router.add(Address.local("secret"), lambda message, host=host: came.append((host, message)))
    client = await raw(found.port)
    client.send(Route.of("forward_to_pi", "uppercase"), Route.of("me"), bare.encode_str("hello"))
    _, back, answer = await client.receive()
    assert bare.decode_str(answer) == "HELLO"
    gateway_link = back[0]  # the relay's link to the gateway: learned from the answer
    (link,) = gateway._links
    named = [address for host in (found.host, gateway) for address in host.router._table]
    for target in ("secret", *named):
        client.send(Route.of("forward_to_pi", target, "secret"), Route.of("me"), b"1")
        client.send(Route.of(gateway_link, target, "secret"), Route.of("me"), b"2")
        client.send(Route.of(gateway_link, link.address, gateway_link, target), Route.of("me"), b"3")
        client.send(Route.of(gateway_link, remote._main, target), Route.of("me"), b"4")
        client.send(Route.of(target, "secret"), Route.of("me"), b"5")
        client.send(Route.of("forward_to_pi", "forward_to_pi", target), Route.of("me"), b"6")
    await asyncio.gather(*(h.ask(next(iter(h._links)).route / "echo", b"x") for h in (gateway,)))
    assert not came
    assert link.closed.done() is False


async def test_routes_of_sixty_four_hops_end_no_link(relay: Any, raw: Any, registered: Any) -> None:
    found = await relay()
    gateway, _ = await registered(found)
    (link,) = gateway._links
    client = await raw(found.port)
    many = Route.of(*("x" for _ in range(63)))
    client.send(Route.of("forward_to_pi") / many, Route.of("me"), b"x")
    client.send(Route.of("forward_to_pi", "uppercase"), many, bare.encode_str("x"))
    client.send(Route.of("forward_to_pi", "uppercase"), many / "x", bare.encode_str("x"))
    client.send(Route.of("forward_to_pi", *("forward_to_pi" for _ in range(63))), many / "x", b"x")
    far = await raw(found.port)
    await far.ask(STATIC, bare.encode_str("far"))  # a registrant that is far away itself
    far.send(STATIC, Route.of(*("h" for _ in range(60))), bare.encode_str("far"))
    client.send(Route.of("forward_to_far") / many, many, b"x")
    client.send(Route.of("forward_to_pi", "echo"), Route.of("me"), b"after it all")
    assert (await client.receive())[2] == b"after it all"
    assert not link.closed.done()
    assert await far.ask(Route.of("echo"), b"still") is not None


async def test_the_largest_message_ends_no_link_of_others(relay: Any, raw: Any, registered: Any) -> None:
    found = await relay()
    gateway, _ = await registered(found)
    (link,) = gateway._links
    client = await raw(found.port)
    gateway_side = next(iter(found.listener.links))
    far = await raw(found.port)
    far.send(STATIC, Route.of("h" * 200, "r1"), bare.encode_str("far"))
    await far.receive()
    largest = found.host.limits.message_bytes - 60
    for name in ("pi", "far"):  # what goes to the second grows by its long hop, beyond the limit
        client.send(Route.of(f"forward_to_{name}", "nobody"), Route(), bytes(largest))
    client.send(Route.of("forward_to_pi", "echo"), Route.of("me"), b"after it")
    assert (await client.receive())[2] == b"after it"
    await far.settle()
    assert not link.closed.done()
    assert not gateway_side.closed.done()


async def test_a_client_that_never_reads_does_not_stop_the_others_for_ever(
    net: Any, relay: Any, raw: Any, registered: Any, until: Any
) -> None:
    found = await relay(link_stall_s=0.4, link_hello_s=0.4)
    gateway, _ = await registered(found)
    lazy, client = await raw(found.port), await raw(found.port)
    lazy.writer.transport.pause_reading()
    chunk = bytes(40_000)
    (link,) = gateway._links
    held = [each for each in found.listener.links if each.remote.endswith(f":{_port_of(lazy)}")]
    while not held[0]._link._gate.is_shut:
        lazy.send(Route.of("forward_to_pi", "echo"), Route.of("me"), chunk)
        await asyncio.sleep(0)
    client.send(Route.of("forward_to_pi", "echo"), Route.of("me"), b"me too")
    assert (await client.receive())[2] == b"me too"
    assert "took nothing" in held[0].closed.result()
    assert not link.closed.done()


def _port_of(peer: Any) -> int:
    port: int = peer.writer.get_extra_info("sockname")[1]
    return port
