"""An application on a board that is smaller than this machine: does it fit, and does it answer?"""

import pytest

from boards import emulated
from boards.network import Network
from ockamlite import TrustEveryone


@pytest.mark.ockamlite(real_time=True)
async def test_a_node_fits_a_pi_zero(network: Network) -> None:
    program = ["-m", "ockamlite", "node", "--listen", "{ble}", "--trust-everyone"]
    async with emulated("raspberry-pi-zero-2-w", program, memory_mb=256) as pi:
        laptop = await network.node("laptop")
        network.reach(laptop, pi)
        way = await laptop.open_hops(f"{pi.ble},secure:secure_channel_listener", trust=TrustEveryone())
        reply = await laptop.ask(way.route / "echo", b"too secret for the air", timeout_s=30)
        assert reply.payload == b"too secret for the air"
    assert not network.trace.links_that_saw(b"secret")
