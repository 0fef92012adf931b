"""The contract of every transport (see ockamlite/wire/link.py): what its links promise, and how they end."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from ockamlite.errors import LinkBrokenError, LinkClosedError, LinkError, UnavailableError
from ockamlite.wire.gate import Gate
from ockamlite.wire.link import Transport

SIZES = [0, 1, 23, 24, 255, 256, 480, 493, 508, 1452, 16_384, 65_535, 65_536, 1_000_000]
MANY = 10_000


async def send_all(end: Any, payloads: list[bytes]) -> None:
    for payload in payloads:
        gate = end.send(payload)
        if gate is not None:
            await gate.wait()


async def stays_shut(gate: Gate) -> bool:
    """False if it opens soon: what was sent found room at the other end."""
    try:
        await asyncio.wait_for(gate.wait(), 0.1)
    except TimeoutError:
        return True
    return False


# -- what arrives ----------------------------------------------------------------------------------


async def test_ten_thousand_messages_arrive_once_and_in_order(reliable: Any) -> None:
    here, there = await reliable.pair()
    sent = [b"%d" % number for number in range(MANY)]
    await send_all(here, sent)
    await there.until(lambda: len(there.came) >= MANY)
    assert there.came == sent


async def test_of_ten_thousand_messages_each_that_arrives_is_one_that_was_sent(contract: Any) -> None:
    here, there = await contract.pair()
    sent = [b"message %d" % number for number in range(MANY)]
    await send_all(here, sent)
    await send_all(here, [b"last"] * 5)
    await there.until(lambda: b"last" in there.came)
    assert set(there.came) <= {*sent, b"last"}
    assert len(there.came) > MANY // 2


async def test_both_directions_carry_at_once(contract: Any) -> None:
    here, there = await contract.pair()
    out, back = ([bytes([side]) * 5000 for _ in range(100)] for side in (1, 2))
    await asyncio.gather(send_all(here, out), send_all(there, back))
    least = 100 if contract.kind.reliable else 50
    await there.until(lambda: len(there.came) >= least)
    await here.until(lambda: len(here.came) >= least)
    assert (set(there.came), set(here.came)) == ({out[0]}, {back[0]})


@pytest.mark.parametrize("size", SIZES)
async def test_a_message_of_any_size_arrives_whole(contract: Any, size: int) -> None:
    here, there = await contract.pair()
    payload = bytes(range(256)) * (size // 256 + 1)
    here.send(payload[:size])
    await there.until(lambda: there.came)
    assert there.came[0] == payload[:size]
    there.send(payload[:size])
    await here.until(lambda: here.came)
    assert here.came[0] == payload[:size]


async def test_the_longest_message_arrives_and_a_longer_one_harms_nothing(
    contract: Any, largest_payload: int
) -> None:
    here, there = await contract.pair()
    here.send(bytes(largest_payload))
    await there.until(lambda: there.came)
    assert len(there.came[0]) == largest_payload
    assert here.send(bytes(largest_payload + 6)) is None
    await send_all(here, [b"after"] * 3)
    await there.until(lambda: b"after" in there.came)
    assert not here.closed


async def test_what_is_sent_is_copied(contract: Any) -> None:
    here, there = await contract.pair()
    payload = bytearray(b"a" * 40_000)
    here.send(payload)
    payload[:] = b"b" * 40_000
    await there.until(lambda: there.came)
    assert there.came[0] == b"a" * 40_000


async def test_links_do_not_mix(contract: Any) -> None:
    if not contract.kind.is_shared:
        pytest.skip(f"{contract.kind.name} has one link at a time")
    pairs = [await contract.pair() for _ in range(4)]
    for number, (here, there) in enumerate(pairs):
        await send_all(here, [bytes([number]) * 3000] * 20)
        await send_all(there, [bytes([number + 100]) * 3000] * 20)
    for number, (here, there) in enumerate(pairs):
        await there.until(lambda there=there: len(there.came) >= 20)
        await here.until(lambda here=here: len(here.came) >= 20)
        assert set(there.came) == {bytes([number]) * 3000}
        assert set(here.came) == {bytes([number + 100]) * 3000}


# -- back-pressure ---------------------------------------------------------------------------------


async def test_a_busy_receiver_stops_its_sender_and_then_gets_everything(contract: Any) -> None:
    here, there = await contract.pair()
    there.gate = Gate(asyncio.get_running_loop())
    there.gate.shut()
    sent, gate = 0, None
    async with asyncio.timeout(10):
        while gate is None or not await stays_shut(gate):
            gate = here.send(b"%08d" % sent + bytes(8000))
            sent += 1
            await asyncio.sleep(0)  # the event loop must get to moving what was sent
    await there.until(lambda: there.came)
    for _ in range(50):
        await asyncio.sleep(0)
    assert gate.is_shut
    assert len(there.came) == 1, "a receiver that is busy is handed nothing more"
    gate_there, there.gate = there.gate, None
    gate_there.open()
    await gate.wait()
    await there.until(lambda: len(there.came) >= sent)
    assert [int(payload[:8]) for payload in there.came] == list(range(sent))


async def test_a_receiver_that_stays_busy_is_given_up(contract: Any) -> None:
    here, there = await contract.pair()
    there.gate = Gate(asyncio.get_running_loop())
    there.gate.shut()
    gate = None
    async with asyncio.timeout(10):
        while gate is None or not await stays_shut(gate):
            gate = here.send(bytes(60_000))
            await asyncio.sleep(0)
    error = await here.end()
    assert isinstance(error, LinkBrokenError)
    assert "took nothing" in str(error)
    assert not gate.is_shut, "who waits to send is let go"
    there.gate.open()


# -- ends ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dialler_closes", [True, False])
async def test_either_side_closes_and_both_know(contract: Any, dialler_closes: bool) -> None:
    here, there = await contract.pair()
    there.send(b"answer")
    await here.until(lambda: here.came)
    first, second = (here, there) if dialler_closes else (there, here)
    first.link.close()
    assert await first.end() is None
    assert isinstance(await second.end(), LinkClosedError)
    for end in (first, second):
        assert end.send(b"after the end") is None
        end.link.close()
    assert len(first.closed) == len(second.closed) == 1


async def test_what_was_sent_before_the_close_arrives(reliable: Any) -> None:
    here, there = await reliable.pair()
    there.send(b"answer")
    await here.until(lambda: here.came)
    sent = [bytes([number]) * 20_000 for number in range(20)]
    for payload in sent:
        here.send(payload)
    here.link.close()
    assert isinstance(await there.end(), LinkClosedError)
    assert there.came == sent


async def test_an_abort_ends_both_sides_with_an_error(contract: Any) -> None:
    here, there = await contract.pair()
    there.send(b"answer")
    await here.until(lambda: here.came)
    reason = LinkBrokenError("enough")
    there.link.abort(reason)
    assert await there.end() is reason
    assert isinstance(await here.end(), LinkError)


async def test_a_frame_that_is_refused_ends_the_link_unless_anybody_can_send_one(contract: Any) -> None:
    here, there = await contract.pair()
    there.refuses = b"refused"
    here.send(b"refused")
    if contract.kind.reliable:
        assert "refused" in str(await there.end())
        assert isinstance(await here.end(), LinkError)
    else:
        here.send(b"taken")
        await there.until(lambda: there.came == [b"taken"])
        assert not here.closed
        assert not there.closed


async def test_a_link_that_breaks_says_so(contract: Any) -> None:
    here, there = await contract.pair()
    contract.kind.sever(here.link, there.link)
    assert isinstance(await here.end(), LinkBrokenError)
    there.link.abort(LinkBrokenError("severed"))
    await there.end()


async def test_a_link_that_ended_before_it_was_started_reports_that(contract: Any) -> None:
    endpoint = await contract.listen()
    link = await contract.transport.connect(endpoint)
    link.abort(LinkBrokenError("changed our mind"))
    for _ in range(20):
        await asyncio.sleep(0)
    late = type((await contract.pair())[0])(link)
    link.start(late)
    assert isinstance(await late.end(), LinkError)


# -- how links begin -------------------------------------------------------------------------------


async def test_it_is_a_transport(contract: Any) -> None:
    assert isinstance(contract.transport, Transport)
    assert contract.kind.listen.startswith(contract.transport.kind + ":")


async def test_a_link_names_both_its_ends(contract: Any) -> None:
    here, there = await contract.pair()
    assert here.link.endpoint == str(contract.listener.endpoint) == there.link.endpoint
    assert here.link.remote
    assert there.link.remote


async def test_to_dial_where_nobody_listens_is_an_error_that_names_the_endpoint(contract: Any) -> None:
    nowhere = contract.kind.nowhere()
    with pytest.raises(UnavailableError, match=nowhere.replace("[", r"\[")):
        await contract.dial(type(await contract.listen()).parse(nowhere))


async def test_to_listen_twice_at_one_endpoint_is_an_error(contract: Any) -> None:
    endpoint = await contract.listen()
    with pytest.raises(UnavailableError, match="cannot listen"):
        await contract.transport.listen(endpoint, lambda _: None)


async def test_a_dialling_that_is_cancelled_leaves_nothing(contract: Any) -> None:
    endpoint = await contract.listen()
    for turns in range(4):
        dialling = asyncio.ensure_future(contract.transport.connect(endpoint))
        for _ in range(turns):
            await asyncio.sleep(0)
        dialling.cancel()
        try:
            link = await dialling
        except asyncio.CancelledError:
            continue
        link.abort(LinkBrokenError("it was quicker"))
    here, _ = await contract.pair()
    assert not here.closed


async def test_a_closed_listener_takes_no_more_and_keeps_what_is_open(contract: Any) -> None:
    here, there = await contract.pair()
    endpoint = contract.listener.endpoint
    await contract.listener.close()
    here.send(b"still")
    await there.until(lambda: there.came)
    known = len(contract.accepted)
    try:
        late = await contract.dial(endpoint)
    except UnavailableError:
        pass
    else:  # a socket without connections refuses nobody: it must still make no link
        late.send(b"too late")
        here.send(b"again")
        await there.until(lambda: len(there.came) > 1)
    assert len(contract.accepted) == known
    await contract.listener.close()


async def test_after_everything_ended_the_same_endpoint_serves_again(contract: Any) -> None:
    for _ in range(3):
        here, there = await contract.pair()
        endpoint = contract.listener.endpoint
        await contract.listener.close()
        here.link.close()
        there.link.close()
        await here.end()
        await there.end()
        contract.listener = None
        await contract.listen(str(endpoint))
    here, there = await contract.pair()
    there.send(b"back")
    await here.until(lambda: here.came == [b"back"])


# -- hostile peers ---------------------------------------------------------------------------------


async def test_bytes_without_sense_harm_nobody_else(contract: Any, garbage: bytes) -> None:
    here, there = await contract.pair()
    for start in (b"", b"\x01", b"\x85", b"\x85\x01", b"\x83\x80\x80"):
        await contract.kind.hostile(contract.listener.endpoint, start + garbage)
    await send_all(here, [b"unharmed"] * 3)
    await there.until(lambda: b"unharmed" in there.came)
    if contract.kind.is_shared:
        another, _ = await contract.pair()
        assert not another.closed
    assert not here.closed
