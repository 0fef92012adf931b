"""Commands in processes of their own on one emulated air: the endpoints are those of real radios."""

from __future__ import annotations

import asyncio
import signal
from typing import TYPE_CHECKING, Any

import pytest

from boards.emulation.air import Air, AirModel
from boards.emulation.air_server import AirServer
from ockamlite.errors import LinkBrokenError, UnavailableError
from ockamlite.limits import LIMITS
from ockamlite.routing.endpoint import Endpoint
from transports.ble import BleTransport
from transports.ble.air import AirClient

if TYPE_CHECKING:
    from pathlib import Path


async def test_an_outlet_and_an_inlet_meet_on_the_emulated_air(
    launch: Any, website: Any, tmp_path: Path
) -> None:
    launch.environment["OCKAMLITE_AIR"] = str(tmp_path / "air")
    air = launch("-m", "boards.emulation.air_server", str(tmp_path / "air"))
    assert air.line("export") == f"export OCKAMLITE_AIR={tmp_path / 'air'}"
    outlet = launch.command(
        "pi", "outlet", f"tcp:127.0.0.1:{website.port}", "--listen", "ble:pi", "--trust-everyone"
    )
    assert "ble:pi" in outlet.line("ready")
    inlet = launch.command("laptop", "inlet", "tcp:127.0.0.1:0", "--via", "ble:pi", "--trust-everyone")
    at = int(inlet.line("ready").split(" -> ")[0].rpartition(":")[2])
    assert await website.fetch(at) == website.page
    assert outlet.end() == 0
    assert inlet.end() == 0
    assert air.end() == 0
    assert not (tmp_path / "air").exists()


async def test_a_process_that_is_killed_breaks_its_links_and_is_forgotten(
    launch: Any, world: Any, tmp_path: Path
) -> None:
    air = Air(AirModel(), seed=1)
    async with AirServer(air, tmp_path / "air"):
        launch.environment["OCKAMLITE_AIR"] = str(tmp_path / "air")
        node = launch.command("pi", "node", "--listen", "ble:pi", "--trust-everyone")
        await asyncio.to_thread(node.line, "ready")
        transport = BleTransport(LIMITS, AirClient(str(tmp_path / "air")))
        link = await transport.connect(Endpoint.parse("ble:pi"))
        ended: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        link.start(Ending(ended))
        await asyncio.to_thread(node.end, signal.SIGKILL)
        async with asyncio.timeout(5):
            assert await ended is not None
        again = launch.command("pi", "node", "--listen", "ble:pi", "--trust-everyone")
        await asyncio.to_thread(again.line, "ready")
        link = await transport.connect(Endpoint.parse("ble:pi"))
        link.close()
        await asyncio.to_thread(again.end)


class Ending:
    """Waits for the end of a link."""

    def __init__(self, ended: asyncio.Future[Any]) -> None:
        self._ended = ended

    def frame_received(self, frame: memoryview) -> None:
        pass

    def messages_lost(self) -> None:
        raise AssertionError("links of this kind lose nothing")

    def link_closed(self, error: Any) -> None:
        self._ended.set_result(error)


async def test_links_of_other_processes_carry_messages_both_ways_and_end(world: Any, tmp_path: Path) -> None:
    path = str(tmp_path / "air")
    messages = [bytes([number]) * 3000 for number in range(60)]
    async with AirServer(Air(AirModel(mtu_exchange_s=0.05, packets_per_event=40)), path):
        here_and_there = world()
        listener = await here_and_there.transport(AirClient(path)).listen(
            Endpoint.parse("ble:pi"), here_and_there.accept
        )
        here = await here_and_there.dial(radio=AirClient(path))
        there = await here_and_there.wait_accepted()
        await asyncio.gather(here.send_all(messages), there.send_all(messages))
        assert await there.wait_frames(60) == messages
        assert await here.wait_frames(60) == messages
        here.link.close()
        assert await here.closed is None
        assert "closed" in str(await there.closed)
        left = await here_and_there.dial(radio=AirClient(path))
        await listener.close()
    assert isinstance(await left.closed, LinkBrokenError)


async def test_an_air_that_is_not_there_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OCKAMLITE_AIR", str(tmp_path / "nothing"))
    transport = BleTransport(LIMITS)
    for attempt in (
        transport.connect(Endpoint.parse("ble:pi")),
        transport.listen(Endpoint.parse("ble:pi"), lambda _: None),
    ):
        with pytest.raises(UnavailableError, match="no emulated air at .*/nothing") as caught:
            await attempt
        assert "ockamlite emulate --ble" in caught.value.hint


async def test_what_is_no_message_of_the_air_closes_the_socket_and_harms_nobody(
    world: Any, tmp_path: Path
) -> None:
    path = str(tmp_path / "air")
    async with AirServer(Air(AirModel()), path):
        for bad in (b"\xff" * 8, b"\x00\x00\x00\x01\x00", b"\x00\x00\x00\x01\x80", b"\x00\x00\x00\x01\xff"):
            reader, writer = await asyncio.open_unix_connection(path)
            writer.write(bad)
            assert await reader.read() == b""
            writer.close()
        odd = b"\x82\x65write\x18\x63"
        _, writer = await asyncio.open_unix_connection(path)
        writer.write(len(odd).to_bytes(4, "big") + odd)
        here_and_there = world()
        listener = await here_and_there.transport(AirClient(path)).listen(
            Endpoint.parse("ble:pi"), here_and_there.accept
        )
        here = await here_and_there.dial(radio=AirClient(path))
        here.link.close()
        await listener.close()
        writer.close()
