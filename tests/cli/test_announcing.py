"""``--announce``: neighbours find what asked to be found, and nothing else is told to anybody."""

from __future__ import annotations

import asyncio
import json
import os
import socket
from importlib.util import find_spec
from typing import Any

import pytest

from boards.neighbours import announce, browse
from ockamlite.errors import OckamError
from ockamlite.routing.endpoint import HostPort


@pytest.fixture(scope="module")
def address() -> str:
    """An address of this machine at which neighbours find each other."""
    pytest.importorskip("zeroconf", reason="pip install 'ockamlite[mdns]'")
    if "OCKAMLITE_TEST_LAN" not in os.environ:
        pytest.skip("set OCKAMLITE_TEST_LAN=1 to announce a node to the neighbours of this machine")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("224.0.0.251", 5353))
        except OSError as error:
            pytest.skip(f"no network for multicast here: {error}")
        own: str = probe.getsockname()[0]

    async def hears_itself() -> bool:
        name = f"probe-{os.getpid()}"
        async with announce(name, HostPort(own, 9)):
            async for found in browse(3):
                if found.name == name:
                    return True
        return False

    try:
        heard = asyncio.run(hears_itself())
    except OckamError as error:
        pytest.skip(f"no mDNS here: {error}")
    if not heard:
        pytest.skip("this network carries no multicast")
    return own


def test_what_is_announced_is_found_and_answers_until_it_ends(run: Any, serve: Any, address: str) -> None:
    name = f"gateway-{os.getpid()}"
    listening = ["--listen", f"tcp:{address}:0", "--announce", name]
    node = serve("node", *listening, "--trust-everyone", "--output", "json")
    ready = node.event("ready")
    assert ready["announced"] == name
    found = scanned(run)
    (endpoint,) = ready["listening"]
    assert found[name] == {
        "kind": "tcp", "name": name, "host": address,
        "port": int(endpoint.rpartition(":")[2]), "endpoint": endpoint,
    }  # fmt: skip
    done = run("send", f"{found[name]['endpoint']},echo", "hello neighbour")
    assert (done.returncode, done.stdout) == (0, "hello neighbour\n"), done.stderr
    assert node.stop() == 0
    assert name not in scanned(run)


def scanned(run: Any) -> dict[str, dict[str, Any]]:
    done = run("scan", "tcp", "--seconds", "2", "--output", "json")
    assert done.returncode == 0, done.stderr
    return {found["name"]: found for found in map(json.loads, done.stdout.splitlines())}


def test_nobody_is_told_unasked(serve: Any) -> None:
    node = serve("node", "--listen", "tcp:127.0.0.1:0", "--trust-everyone", "--output", "json")
    assert "announced" not in node.event("ready")
    assert node.stop() == 0


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("node", "--announce", "gateway"), "no tcp: endpoint here that others can reach"),
        (("relay", "--announce", "gateway"), "no tcp: endpoint here that others can reach"),
        (("relay", "--announce", "gateway", "--listen", "tcp:[::1]:0"), "no tcp: endpoint here"),
        (("relay", "--announce", "gateway", "--listen", "tcp:localhost:0"), "no tcp: endpoint here"),
        (("relay", "--announce", "gateway", "--listen", "udp:0.0.0.0:0"), "no tcp: endpoint here"),
        (("relay", "--announce", "a.b", "--listen", "tcp:0.0.0.0:0"), "no name to announce"),
    ],
)
def test_what_nobody_could_find_is_refused(run: Any, arguments: tuple[str, ...], said: str) -> None:
    done = run(*arguments)
    assert (done.returncode, said in done.stderr) == (64, True), done.stderr
    assert done.stderr.splitlines()[1].startswith("try: ")


@pytest.mark.skipif(find_spec("zeroconf") is not None, reason="the extra is installed")
def test_announcing_without_the_extra_ends_with_64_and_says_what_brings_it(run: Any) -> None:
    done = run("node", "--trust-everyone", "--listen", "tcp:0.0.0.0:0", "--announce", "gateway")
    assert (done.returncode, done.stdout) == (64, "")
    assert done.stderr.splitlines()[-1] == "try: pip install 'ockamlite[mdns]'"
