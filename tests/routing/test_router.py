"""The router: where a message goes next, and that a flow reaches only what was opened to it."""

from __future__ import annotations

import pytest

from ockamlite.errors import AlreadyExistsError, NotFoundError
from ockamlite.routing.address import TCP, Address
from ockamlite.routing.message import Flow, Message
from ockamlite.routing.route import EMPTY_ROUTE, Route
from ockamlite.routing.router import Router


class Sink:
    """Keeps the messages it is handed."""

    def __init__(self) -> None:
        self.messages: list[Message] = []

    def __call__(self, message: Message) -> None:
        self.messages.append(message)


class Watcher:
    """Notes what becomes of a flow."""

    def __init__(self) -> None:
        self.lost = 0
        self.reason: str | None = None

    def flow_lost_messages(self) -> None:
        self.lost += 1

    def flow_closed(self, reason: str) -> None:
        assert self.reason is None
        self.reason = reason


ECHO = Address.local("echo")


@pytest.fixture
def sink() -> Sink:
    return Sink()


@pytest.fixture
def router(sink: Sink) -> Router:
    made = Router()
    made.add(ECHO, sink)
    return made


def message(*hops: str, flow: Flow | None = None) -> Message:
    return Message(Route.of(*hops), EMPTY_ROUTE, b"x", flow)


def test_a_local_message_reaches_its_worker_with_the_address_still_in_front(
    router: Router, sink: Sink
) -> None:
    router.deliver(message("echo", "more"))
    assert sink.messages[0].onward == Route.of("echo", "more")


def test_a_message_of_a_new_flow_reaches_nothing(router: Router, sink: Sink) -> None:
    assert router.deliver(message("echo", flow=Flow("link"))) is None
    assert sink.messages == []
    assert router.dropped == 1


def test_a_flow_reaches_what_was_opened_to_it_or_to_its_listener(router: Router, sink: Sink) -> None:
    listener = Flow("listener")
    link, child = Flow("link"), Flow("accepted", parent=listener)
    router.open(ECHO, (link, listener))
    router.deliver(message("echo", flow=link))
    router.deliver(message("echo", flow=child))
    assert len(sink.messages) == 2


def test_a_grandchild_does_not_inherit(router: Router, sink: Sink) -> None:
    listener = Flow("listener")
    router.open(ECHO, (listener,))
    grandchild = Flow("nested", parent=Flow("accepted", parent=listener))
    router.deliver(message("echo", flow=grandchild))
    assert sink.messages == []


def test_the_access_control_is_asked_for_flows_only(sink: Sink) -> None:
    router = Router()
    router.add(ECHO, sink, allowed=lambda _: False)
    flow = Flow("link")
    router.open(ECHO, (flow,))
    router.deliver(message("echo", flow=flow))
    assert sink.messages == []
    router.deliver(message("echo"))
    assert len(sink.messages) == 1


def test_an_unknown_address_is_an_error_for_us_and_silence_for_a_peer(router: Router) -> None:
    with pytest.raises(NotFoundError, match="0#nobody"):
        router.deliver(message("nobody"))
    router.deliver(message("nobody", flow=Flow("link")))
    assert router.dropped == 1


def test_an_empty_route_is_an_error_for_us_and_a_heartbeat_from_a_peer(router: Router) -> None:
    with pytest.raises(NotFoundError):
        router.deliver(message())
    router.deliver(message(flow=Flow("link")))
    assert router.dropped == 0


def test_a_removed_address_takes_its_permissions_along(router: Router, sink: Sink) -> None:
    flow = Flow("link")
    router.open(ECHO, (flow,))
    router.remove(ECHO)
    assert flow.consumers == set()
    router.add(ECHO, sink)
    router.deliver(message("echo", flow=flow))
    assert sink.messages == []


def test_an_address_is_given_once(router: Router, sink: Sink) -> None:
    with pytest.raises(AlreadyExistsError, match="echo"):
        router.add(ECHO, sink)


def test_a_link_in_a_route_is_refused_unless_forwarding_was_allowed(router: Router) -> None:
    flow = Flow("link")
    asked = Message(Route((Address(TCP, b"10.0.0.7:4000"), ECHO)), EMPTY_ROUTE, b"x", flow)
    router.deliver(asked)
    assert router.dropped == 1
    forwarded = Sink()
    router.forward = forwarded
    router.deliver(asked)
    assert forwarded.messages == [asked]


def test_dropped_messages_do_not_flood_the_log(router: Router, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    flow = Flow("link")
    for _ in range(10_000):
        router.deliver(message("nobody", flow=flow))
    assert router.dropped == 10_000
    assert len(caplog.records) < 20


def test_a_closed_flow_tells_its_watchers_once_and_reaches_nothing(router: Router, sink: Sink) -> None:
    flow, watcher = Flow("link"), Watcher()
    router.open(ECHO, (flow,))
    flow.watch(watcher)
    flow.lost_messages()
    flow.close("cable pulled")
    flow.close("again")
    assert (watcher.lost, watcher.reason) == (1, "cable pulled")
    router.deliver(message("echo", flow=flow))
    assert sink.messages == []
    with pytest.raises(AlreadyExistsError, match="cable pulled"):
        flow.watch(Watcher())


def test_closed_flows_are_forgotten_by_what_was_opened_to_them(router: Router) -> None:
    for number in range(1000):
        flow = Flow(f"link {number}")
        router.open(ECHO, (flow,))
        flow.close("done")
    entry = router._table[ECHO]
    assert len(entry.flows) < 100
