"""The registrant's side: it stays registered, says so, and is reached through relays of any kind."""

from __future__ import annotations

import asyncio
import os
import socket
from types import SimpleNamespace
from typing import Any

import pytest

from ockamlite import bare
from ockamlite.errors import AnswerTimeoutError, ProtocolError
from ockamlite.relays import remote as remote_module
from ockamlite.relays.remote import RemoteRelay
from ockamlite.routing.address import Address
from ockamlite.routing.message import Message
from ockamlite.routing.route import Route
from ockamlite.secure_channels.trust import TrustIdentifiers
from ockamlite.workers.context import ask


def free_port() -> int:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port: int = unused.getsockname()[1]
        return port


async def test_a_name_leads_to_what_its_node_offers_and_the_answers_come_back(
    net: Any, relay: Any, registered: Any
) -> None:
    found = await relay()
    gateway, remote = await registered(found)
    assert remote.address == Address.local("forward_to_pi")
    assert (await gateway.event("relay-registered")).address == "forward_to_pi"
    client = await net.node()
    link = await client.connect(found.at)
    answer = await client.ask(link.route / "forward_to_pi" / "uppercase", "hello")
    assert answer.text == "HELLO"
    assert Address.local("forward_to_pi") not in answer.return_route
    assert (await client.ask(link.route / "forward_to_pi" / "echo", b"\xff\x00")).payload == b"\xff\x00"


async def test_only_the_workers_offered_are_reached(net: Any, relay: Any, registered: Any) -> None:
    found = await relay()
    gateway, _ = await registered(found, offer=[])
    client = await net.node()
    link = await client.connect(found.at)
    with pytest.raises(AnswerTimeoutError):
        await client.ask(link.route / "forward_to_pi" / "uppercase", "hello", timeout_s=0.2)
    assert gateway.router.dropped == 1
    await client.ask(link.route / "forward_to_pi" / "echo", b"offered to everybody")


async def test_what_is_offered_is_reached_also_if_the_path_was_open_before(net: Any, relay: Any) -> None:
    found = await relay()
    gateway, client = await net.node(), await net.node()
    gateway.uppercase()
    path = gateway.path(found.at)
    await path.wait(5.0)
    await gateway.register(path, name="pi", offer=["uppercase"]).registered()
    link = await client.connect(found.at)
    assert (await client.ask(link.route / "forward_to_pi" / "uppercase", "hello")).text == "HELLO"


async def test_a_name_made_up_by_the_relay_is_used(net: Any, relay: Any, registered: Any) -> None:
    found = await relay()
    _, remote = await registered(found, None)
    client = await net.node()
    link = await client.connect(found.at)
    answer = await client.ask(link.route / remote.address / "uppercase", "hello")
    assert answer.text == "HELLO"


async def test_two_clients_at_once_get_each_their_own_answers(net: Any, relay: Any, registered: Any) -> None:
    found = await relay()
    await registered(found)

    async def talk(number: int) -> list[str]:
        client = await net.node()
        link = await client.connect(found.at)
        route = link.route / "forward_to_pi" / "uppercase"
        return [(await client.ask(route, f"client {number} {n}")).text for n in range(20)]

    one, two = await asyncio.gather(talk(1), talk(2))
    assert one == [f"CLIENT 1 {n}" for n in range(20)]
    assert two == [f"CLIENT 2 {n}" for n in range(20)]


async def test_a_name_that_routes_cannot_hold_is_refused_at_once(net: Any, relay: Any) -> None:
    found = await relay()
    node = await net.node()
    with pytest.raises(ProtocolError):
        node.register(node.path(found.at), name="a,b")


async def test_a_registrant_registers_again_after_the_relay_restarted_and_says_so(
    net: Any, relay: Any, registered: Any
) -> None:
    found = await relay()
    gateway, remote = await registered(found)
    await found.host.close()
    lost = await gateway.event("relay-lost")
    assert lost.address == "forward_to_pi"
    assert "closed by the peer" in lost.reason
    assert remote.address is None
    again = await relay(at=found.port)
    await gateway.event("relay-registered", 2)
    client = await net.node()
    link = await client.connect(again.at)
    assert (await client.ask(link.route / "forward_to_pi" / "uppercase", "hello")).text == "HELLO"


async def test_a_relay_that_is_down_at_first_is_waited_for(net: Any, relay: Any) -> None:
    port = free_port()
    gateway = await net.node()
    path = gateway.path(f"tcp:127.0.0.1:{port}")
    remote = gateway.register(path, name="pi")
    while path.failure is None:
        await asyncio.sleep(0.001)
    assert "connection refused" in str(path.failure)
    await relay(at=port)
    async with asyncio.timeout(10):
        await remote.registered()


async def test_a_registration_that_the_relay_forgot_is_made_anew(
    net: Any, relay: Any, registered: Any, monkeypatch: Any
) -> None:
    monkeypatch.setattr(remote_module, "_CHECK_S", 0.05)
    monkeypatch.setattr(remote_module, "_CHECK_ANSWER_S", 0.1)
    found = await relay()
    gateway, _ = await registered(found)
    answered = asyncio.Event()

    async def watched(*args: Any) -> Any:
        result = await ask(*args)
        answered.set()
        return result

    monkeypatch.setattr(remote_module, "ask", watched)
    await answered.wait()  # the registrant has seen that its messages come back
    (registration,) = found.service._relays.values()
    registration.end("forgotten")
    assert "no longer forwards" in (await gateway.event("relay-lost")).reason
    await gateway.event("relay-registered", 2)
    assert found.service._relays


async def test_a_relay_that_hangs_up_as_soon_as_the_path_is_open_is_dialled_again(
    net: Any, relay: Any, monkeypatch: Any
) -> None:
    found, gateway = await relay(), await net.node()
    gateway.uppercase()
    open_hops, opened = gateway.open_hops, []

    async def hung_up(*args: Any, **options: Any) -> Any:
        opened.append(await open_hops(*args, **options))
        if len(opened) == 1:
            (link,) = opened[0].parts
            link.close()
            await link.closed
        return opened[-1]

    monkeypatch.setattr(gateway, "open_hops", hung_up)
    remote = gateway.register(gateway.path(found.at), name="pi", offer=["uppercase"])
    async with asyncio.timeout(10):
        assert (await remote.registered()).name == "forward_to_pi"
    assert len(opened) == 2


async def test_a_path_that_ends_while_the_relay_answers_is_noticed_at_once(net: Any, until: Any) -> None:
    host = await net.node()

    class Part:
        closed: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    class Ended:
        text = "somewhere"
        opened: Any = SimpleNamespace(parts=[Part])
        current: Any = Route.of("link")

        async def wait(self, timeout_s: float, *, hurry: bool) -> Route:
            if self.current is None:
                await asyncio.Future()
            found: Route = self.current
            return found

    path = Ended()

    def relay(message: Message) -> None:
        back = Message(message.return_route, Route.of("forward_to_pi"), bare.encode_str("forward_to_pi"))
        host.router.deliver(back)
        Part.closed.set_result("cut")
        path.opened = path.current = None

    host.router.add(Address.local("link"), relay)
    remote = RemoteRelay(host.router, host.limits, host.seen.append, path, "pi")  # type: ignore[arg-type]
    task = asyncio.ensure_future(remote.run())
    async with asyncio.timeout(2):
        assert (await host.event("relay-lost")).reason == "cut"
    task.cancel()
    await asyncio.wait([task])


async def test_what_is_offered_no_more_costs_the_rest_nothing(
    net: Any, relay: Any, until: Any, caplog: Any
) -> None:
    found, gateway, client = await relay(), await net.node(), await net.node()
    gateway.uppercase()
    outlet = gateway.outlet("tcp:127.0.0.1:9")
    remote = gateway.register(gateway.path(found.at), name="pi", offer=[outlet.address, "uppercase"])
    await remote.registered()
    await outlet.close()
    for link in tuple(found.listener.links):
        link.close()
    await gateway.event("relay-registered", 2)
    assert "outlet is not there" in caplog.text
    link = await client.connect(found.at)
    assert (await client.ask(link.route / "forward_to_pi" / "uppercase", "hello")).text == "HELLO"


async def test_a_relay_that_does_not_answer_is_asked_again(net: Any, relay: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr(remote_module, "_ANSWER_S", 0.1)
    stranger = await net.node()
    found = await relay(may_register=TrustIdentifiers(stranger.identity.identifier))
    gateway = await net.node()
    remote = gateway.register(gateway.path(found.at), name="pi")
    await found.host.event("refused", 2)
    found.service._may_register = None
    async with asyncio.timeout(10):
        assert (await remote.registered()).name == "forward_to_pi"


async def test_a_relay_that_keeps_the_last_hop_works(net: Any) -> None:
    """As relays of the Elixir kind do: bare alias in the answer, and the registrant's address stays."""
    host, gateway, client = await net.node(), await net.node(), await net.node()
    listener = await host.listen("tcp:127.0.0.1:0")
    service, alias = Address.local("static_forwarding_service"), Address.local("pi")
    onward: list[Route] = []

    def register(message: Message) -> Any:
        assert bare.decode_str(bytes(message.payload)) == "pi"
        onward.append(message.return_route)
        return host.router.deliver(Message(message.return_route, Route((alias,)), bare.encode_str("pi")))

    def forward(message: Message) -> Any:
        for flow in (message.flow, host.router.flow_of(onward[0][0])):
            host.router.open(onward[0][0], (flow,))
            host.router.open(message.return_route[0], (flow,))
        return host.router.deliver(
            Message(onward[0] / message.onward.rest, message.return_route, message.payload)
        )

    host.router.add(service, register)
    host.router.add(alias, forward)
    host.open(service, listener)
    host.open(alias, listener)
    gateway.uppercase()
    secret: list[Message] = []
    gateway.router.add(Address.local("secret"), secret.append)
    where = f"tcp:127.0.0.1:{listener.endpoint.host_port.port}"
    remote = gateway.register(gateway.path(where), name="pi", offer=["uppercase"])
    assert (await remote.registered()).name == "pi"
    link = await client.connect(where)
    assert (await client.ask(link.route / "pi" / "uppercase", "hello")).text == "HELLO"
    # What was not offered is not reached this way either, and a route through itself ends.
    context = client.context()
    for route in ("secret", remote._main.name):
        await context.send(link.route / "pi" / route / "secret", b"x")
        await context.send(link.route / "pi" / route, b"x")
    await client.ask(link.route / "pi" / "echo", b"after it all")
    assert not secret
    await client.stop_worker(context.address)


async def through_relay(net: Any, found: Any, target: int) -> tuple[Any, Any, Any, Any]:
    """A gateway behind a relay, a laptop that trusts nobody else, and their portal."""
    gateway, laptop = await net.node(), await net.node()
    outlet = gateway.outlet(f"tcp:127.0.0.1:{target}")
    channels = gateway.secure_channel_listener(trust=TrustIdentifiers(laptop.identity.identifier))
    gateway.open("outlet", channels)
    await gateway.register(gateway.path(found.at), name="pi", offer=[channels.address]).registered()
    path = laptop.path(
        f"{found.at},forward_to_pi,secure:secure_channel_listener,outlet",
        trust=TrustIdentifiers(gateway.identity.identifier),
    )
    await path.wait(10.0)
    inlet = await laptop.inlet("tcp:127.0.0.1:0", path)
    return gateway, laptop, outlet, inlet


async def test_a_relay_sees_ciphertext_only(net: Any, relay: Any, until: Any) -> None:
    found = await relay(wired=True)
    _, _, outlet, inlet = await through_relay(net, found, await net.echo())
    canary = os.urandom(24)
    reader, writer = await asyncio.open_connection("127.0.0.1", inlet.port)
    writer.write(canary * 2000)
    writer.write_eof()
    assert await reader.read() == canary * 2000
    writer.close()
    await until(lambda: not inlet.sessions and not outlet.sessions)
    assert len(found.wire.seen) > 4 * len(canary) * 2000  # it did go this way, twice, in and out
    for piece in (canary[:12], canary[12:]):
        assert piece not in found.wire.seen
    assert b"forward_to_pi" in found.wire.seen  # what is in clear is found by such a search


async def test_a_portal_through_a_relay_comes_back_after_the_relay_restarted(net: Any, relay: Any) -> None:
    found = await relay()
    gateway, laptop, _, inlet = await through_relay(net, found, await net.echo())
    reader, writer = await asyncio.open_connection("127.0.0.1", inlet.port)
    writer.write(b"before")
    assert await reader.readexactly(6) == b"before"
    await found.host.close()
    with pytest.raises(ConnectionError):
        await reader.readexactly(1)
    writer.close()
    for host in (gateway, laptop):
        assert "the way to the peer is gone" in (await host.event("session-close")).reason
    await relay(at=found.port)
    await gateway.event("relay-registered", 2)
    async with asyncio.timeout(10):
        while True:
            reader, writer = await asyncio.open_connection("127.0.0.1", inlet.port)
            writer.write(b"after")
            try:
                assert await reader.readexactly(5) == b"after"
                break
            except (ConnectionError, asyncio.IncompleteReadError):
                continue  # turned away: the inlet had no way yet
            finally:
                writer.close()


async def test_an_inlet_at_the_relay_itself_reaches_who_registered(net: Any, relay: Any) -> None:
    found = await relay()
    gateway = await net.node()
    gateway.outlet(f"tcp:127.0.0.1:{await net.echo()}")
    channels = gateway.secure_channel_listener(trust=TrustIdentifiers(found.host.identity.identifier))
    gateway.open("outlet", channels)
    await gateway.register(gateway.path(found.at), name="pi", offer=[channels.address]).registered()
    channel = await found.host.secure_channel(
        Route.of("forward_to_pi", "secure_channel_listener"),
        trust=TrustIdentifiers(gateway.identity.identifier),
    )
    inlet = await found.host.inlet("tcp:127.0.0.1:0", channel.route / "outlet")
    reader, writer = await asyncio.open_connection("127.0.0.1", inlet.port)
    writer.write(b"hello")
    assert await reader.readexactly(5) == b"hello"
    writer.close()
