"""What cannot be listened at says why, and what to do."""

from __future__ import annotations

import socket
import traceback

import pytest

import ockamlite
from ockamlite.errors import UnavailableError
from ockamlite.wire.failures import describe


@pytest.mark.parametrize("kind", ["tcp", "udp"])
@pytest.mark.parametrize(
    ("host", "reason", "hint"),
    [
        ("192.0.2.1", "this machine has no such address", "`ip address` lists"),
        ("nobody.invalid", "host unknown", ""),
    ],
)
async def test_a_host_that_cannot_be_bound_is_no_reason_to_choose_another_port(
    kind: str, host: str, reason: str, hint: str
) -> None:
    async with ockamlite.Node() as node:
        with pytest.raises(UnavailableError, match=reason) as link:
            await node.listen(f"{kind}:{host}:4000")
        assert link.value.hint.startswith(hint)
        assert "port 0" not in link.value.hint
        shown = "".join(traceback.format_exception(link.value))
        assert shown.count("try: ") == bool(hint)
        assert link.value.hint in shown
        if kind == "tcp":
            with pytest.raises(UnavailableError, match=reason) as inlet:
                await node.inlet(f"tcp:{host}:4000", ockamlite.Route.of("outlet"))
            assert inlet.value.hint == link.value.hint


async def test_a_port_in_use_is_one() -> None:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        held.listen()
        port = held.getsockname()[1]
        async with ockamlite.Node() as node:
            for attempt in (
                node.listen(f"tcp:127.0.0.1:{port}"),
                node.inlet(f"tcp:127.0.0.1:{port}", ockamlite.Route.of("outlet")),
            ):
                with pytest.raises(UnavailableError, match=f"port {port} is in use by") as found:
                    await attempt
                assert found.value.hint == "choose another port, or port 0"


def test_when_several_addresses_failed_the_reason_is_the_systems_all_the_same() -> None:
    assert describe(OSError("Multiple exceptions: [Errno 111] Connect call failed, [Errno 113] …")) == (
        "connection refused"
    )
    assert describe(OSError("no number")) == "no number"
