"""``ble:`` uses the board's own adapter, and values of the length that its profile recommends."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

import transports.ble
from boards.detection import default_adapter
from boards.emulation.air import Air, AirEvent
from boards.emulation.clock import run as run_virtual
from ockamlite import Node
from ockamlite.cli.run import auto, serving
from ockamlite.limits import LIMITS
from ockamlite.routing.endpoint import Endpoint
from transports.ble import BleTransport

if TYPE_CHECKING:
    from ockamlite.wire.link import Transport


def pi(tree: Any) -> Any:
    tree.device_tree("Raspberry Pi 4 Model B Rev 1.1", "raspberrypi,4-model-b", "brcm,bcm2711")
    return tree


def test_a_dongle_does_not_take_the_place_of_the_boards_own_adapter(tree: Any) -> None:
    pi(tree).dongle("hci0")
    tree.chip("hci1")
    assert default_adapter(tree.root) == "hci1"


def test_a_computer_whose_adapters_come_by_usb_takes_one_of_those(x86: Any) -> None:
    x86.chip("hci0")
    x86.dongle("hci1")
    x86.dongle("hci2")
    assert default_adapter(x86.root) == "hci1"


@pytest.mark.parametrize("how", ["soft", "hard"])
def test_an_adapter_that_is_blocked_is_not_chosen(tree: Any, how: str) -> None:
    pi(tree).chip("hci0")
    tree.dongle("hci1")
    tree.dongle("hci2")
    tree.block("hci0", how)
    assert default_adapter(tree.root) == "hci1"


def test_one_adapter_needs_no_choice(tree: Any) -> None:
    assert default_adapter(pi(tree).root) == ""
    tree.chip("hci0")
    assert default_adapter(tree.root) == ""


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, ...]]:
    """Which adapters and controllers were asked for, instead of any being used."""
    seen: list[tuple[str, ...]] = []
    monkeypatch.delenv("OCKAMLITE_AIR", raising=False)

    def radio_for(*which: str) -> Any:
        seen.append(which)
        return Air().radio()

    monkeypatch.setattr(transports.ble, "radio_for", radio_for)
    return seen


@pytest.mark.parametrize(
    ("endpoint", "which"),
    [
        ("ble:pi", ("hci1", "")),
        ("ble:pi?adapter=hci0", ("hci0", "")),
    ],
)
def test_what_an_endpoint_names_counts_before_the_board(
    tree: Any,
    asked: list[tuple[str, ...]],
    endpoint: str,
    which: tuple[str, ...],
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("INFO", "transports.ble")
    pi(tree).dongle("hci0")
    tree.chip("hci1")

    async def body() -> None:
        async with Node(transports=[auto.ble_transport(tree.root)]) as node:
            await node.listen(endpoint)

    run_virtual(body())
    assert asked == [which]
    told = ["ble: is hci1 here; ?adapter= names another one"]
    assert caplog.messages == (told if endpoint == "ble:pi" else [])


def talk(*ends: Transport) -> None:
    async def body() -> None:
        async with Node(transports=[ends[0]]) as here, Node(transports=[ends[1]]) as there:
            await there.listen("ble:there")
            link = await here.connect("ble:there")
            await here.ask(link.route / "echo", bytes(5000), timeout_s=30)

    run_virtual(body())


@pytest.mark.parametrize("number", [0, 1], ids=["central", "peripheral"])
def test_values_are_as_long_as_the_profile_recommends(tree: Any, number: int) -> None:
    events: list[AirEvent] = []
    air = Air(observe=events.append)
    most = [495, 495]
    most[number] = 244
    ends = [BleTransport(LIMITS, air.radio(), most_bytes=size) for size in most]
    talk(*ends)
    for radio, size in zip(("01", "02"), most, strict=True):
        sent = [len(event.value) for event in events if event.source.endswith(radio)]
        assert max(sent) == size, radio


def test_the_command_takes_what_the_profile_says(tree: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OCKAMLITE_AIR", raising=False)
    made: list[dict[str, Any]] = []
    monkeypatch.setattr(transports.ble, "BleTransport", lambda _, **options: made.append(options))
    pi(tree).chip("hci0")
    monkeypatch.setattr(auto.ble_transport, "__defaults__", (tree.root,))
    serving.transports([Endpoint("ble", "*")])
    assert made == [{"adapter": "", "most_bytes": 244}]
    monkeypatch.setenv("OCKAMLITE_AIR", "/somewhere")
    serving.transports([Endpoint("ble", "*")])
    assert made[1:] == [{}]


def test_links_for_others_use_the_board_as_well() -> None:
    assert serving.forwarded(["tcp", "ble:pi"]) == [Endpoint("ble", "*")]
    assert serving.forwarded(["tcp", "serial:/dev/ttyUSB0"]) == []
