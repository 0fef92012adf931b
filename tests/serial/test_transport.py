"""Links over an emulated line, in the time of a virtual clock: what they carry, and what breaks them."""

from __future__ import annotations

import asyncio
import logging
import random
from typing import TYPE_CHECKING, Any, TypeVar

import pytest

from boards.emulation import clock
from boards.emulation.line import MemoryLine
from boards.emulation.uart import Noise
from ockamlite.errors import LinkBrokenError, LinkClosedError, LinkError, UnavailableError, UsageError
from ockamlite.wire.gate import Gate

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

T = TypeVar("T")
NOISES = [Noise(), Noise(bit_error_ratio=1e-5), Noise(bit_error_ratio=1e-4), Noise(gap_ratio=1e-4)]


def run(main: Coroutine[Any, Any, T]) -> T:
    """Run in virtual time, of which no test needs more than a few hours."""

    async def limited() -> T:
        async with asyncio.timeout(20_000):
            return await main

    return clock.run(limited())


def now() -> float:
    return asyncio.get_running_loop().time()


@pytest.mark.parametrize("noise", NOISES)
@pytest.mark.parametrize("query", ["", "?baud=9600", "?baud=3000000&parity=even&stop=2"])
def test_messages_arrive_whole_in_order_and_once_both_ways(
    noise: Noise, query: str, pair: Any, whole: Callable[[bytes], bytes]
) -> None:
    rng = random.Random(1)
    sent = [rng.randbytes(size) for size in (0, 1, 255, 256, 257, 3000, 1, 5000)]

    async def main() -> None:
        both = pair(MemoryLine(noise=noise, seed=3), query, query)
        a, b = await both.up()
        for payload in sent:
            a.send(payload)
            b.send(payload)
        expected = [whole(payload) for payload in sent]
        assert await a.wait(len(sent)) == expected
        assert await b.wait(len(sent)) == expected
        b.link.close()
        assert await b.closed is None
        assert isinstance(await a.closed, LinkClosedError)
        await both.close()

    run(main())


def test_a_link_is_up_in_a_tenth_of_a_second(pair: Any) -> None:
    async def main() -> float:
        both = pair()
        await both.up()
        return now()

    assert run(main()) < 0.1


def test_who_dials_first_is_met_by_who_listens_later(pair: Any, whole: Callable[[bytes], bytes]) -> None:
    async def main() -> None:
        both = pair()
        dialling = asyncio.create_task(both.b.connect())
        await asyncio.sleep(5)
        await both.a.listen()
        b = await dialling
        b.send(b"hello")
        assert await (await both.a.accepted()).wait() == [whole(b"hello")]
        assert now() < 8

    run(main())


def test_both_ends_may_dial(pair: Any, whole: Callable[[bytes], bytes]) -> None:
    async def main() -> None:
        both = pair()
        a, b = await asyncio.gather(both.a.connect(), both.b.connect())
        a.send(b"from a")
        b.send(b"from b")
        assert await a.wait() == [whole(b"from b")]
        assert await b.wait() == [whole(b"from a")]

    run(main())


def test_who_listens_is_silent_until_somebody_speaks(pair: Any) -> None:
    async def main() -> int:
        both = pair()
        await both.a.listen()
        await asyncio.sleep(600)
        sent: int = both.line.crossed_bytes[0]
        return sent

    assert run(main()) == 0


def test_an_idle_link_stays_up_at_eight_bytes_a_second_at_most(pair: Any) -> None:
    async def main() -> float:
        both = pair()
        a, b = await both.up()
        before = sum(both.line.crossed_bytes)
        await asyncio.sleep(3600)
        assert not a.closed.done()
        assert not b.closed.done()
        sent: int = sum(both.line.crossed_bytes) - before
        return sent / 3600

    assert run(main()) <= 8


@pytest.mark.parametrize("at", [0, 1, 50])
def test_text_of_a_boot_loader_before_the_link_does_no_harm(
    at: int, pair: Any, whole: Callable[[bytes], bytes]
) -> None:
    async def main() -> None:
        both = pair()
        await both.a.listen()
        dialling = asyncio.create_task(both.b.connect())
        await asyncio.sleep(at * 0.001)
        for _ in range(20):
            both.line.inject(0, b"[    0.000000] Booting Linux on physical CPU 0x0\r\n")
            both.line.inject(1, b"login: ")
            await asyncio.sleep(0.05)
        b = await dialling
        b.send(b"x")
        assert await (await both.a.accepted()).wait() == [whole(b"x")]

    run(main())


def test_noise_let_in_at_any_moment_costs_repeats_and_nothing_else(
    pair: Any, whole: Callable[[bytes], bytes]
) -> None:
    async def main() -> None:
        rng = random.Random(4)
        both = pair()
        a, b = await both.up()
        sent = [rng.randbytes(700) for _ in range(60)]
        for payload in sent:
            b.send(payload)
        for _ in range(100):
            await asyncio.sleep(rng.random() * 0.1)
            both.line.inject(rng.randrange(2), rng.randbytes(rng.randrange(1, 40)))
        assert await a.wait(60) == [whole(payload) for payload in sent]
        assert len(a.messages) == 60

    run(main())


def test_a_peer_that_restarts_in_the_middle_of_a_frame_gets_a_new_link(
    pair: Any, whole: Callable[[bytes], bytes]
) -> None:
    async def main() -> None:
        both = pair()
        a, b = await both.up()
        b.send(bytes(5000))
        await asyncio.sleep(0.1)
        both.line.unplug(1)  # gone without a word
        both.line.plug(1)
        assert isinstance(await b.closed, LinkBrokenError)
        again = await both.b.connect()
        second = await both.a.accepted(2)
        assert isinstance(await a.closed, LinkClosedError)
        assert "restarted" in str(await a.closed)
        again.send(b"after")
        assert await second.wait() == [whole(b"after")]
        assert a.messages == []

    run(main())


def test_a_listener_that_restarts_is_found_again(
    pair: Any, end: Any, whole: Callable[[bytes], bytes]
) -> None:
    async def main() -> None:
        both = pair()
        _, b = await both.up()
        began = now()
        await both.a.listener.close()
        both.line.unplug(0)
        both.line.plug(0)
        fresh = end("a", both.line.open_port)
        await fresh.listen()
        b.send(b"are you there?")
        assert isinstance(await b.closed, LinkClosedError)
        assert now() - began < 3
        again = await both.b.connect()
        again.send(b"hello")
        while not (fresh.receivers and fresh.receivers[-1].messages):
            await asyncio.sleep(0.01)
        assert fresh.receivers[-1].messages == [whole(b"hello")]

    run(main())


def test_a_listener_survives_its_adapter_being_pulled_fifty_times(
    pair: Any, whole: Callable[[bytes], bytes]
) -> None:
    async def main() -> None:
        both = pair()
        await both.a.listen()
        rng = random.Random(2)
        for number in range(1, 51):
            b = await both.b.connect()
            for n in range(20):
                b.send(bytes([number, n]) * 200)
            while not (both.a.receivers and whole(bytes([number, 0]) * 200) in both.a.receivers[-1].messages):
                await asyncio.sleep(0.001)
            a = both.a.receivers[-1]
            await asyncio.sleep(rng.random() * 0.5)
            end = rng.randrange(2)
            both.line.unplug(end)
            assert isinstance(await (a, b)[end].closed, LinkBrokenError)
            await asyncio.sleep(rng.random())
            both.line.plug(end)
            if end == 0:
                b.link.close()
                await b.closed
            assert a.messages == [whole(bytes([number, n]) * 200) for n in range(len(a.messages))]

    run(main())


@pytest.mark.parametrize(
    ("raised", "told"),
    [
        (OSError(5, "Input/output error"), "input/output error"),
        (OSError("write failed: [Errno 5] Input/output error"), "write failed: input/output error"),
        (OSError("device reports readiness to read but returned no data"), "the device is gone"),
    ],
)
def test_what_a_port_was_lost_by_is_told_in_words(raised: OSError, told: str, pair: Any) -> None:
    async def main() -> None:
        both = pair()
        _, b = await both.up()
        both.line._ports[1].lose(raised)
        assert str(await b.closed) == f"b: unplugged, or lost: {told}"

    run(main())


def test_a_listener_reopens_its_port_sooner_than_five_seconds_after_it_is_back(pair: Any) -> None:
    async def main() -> None:
        both = pair()
        a, b = await both.up()
        both.line.unplug(0)
        assert "unplugged" in str(await a.closed)
        b.link.close()
        await b.closed
        await asyncio.sleep(3600)
        both.line.plug(0)
        began = now()
        await both.b.connect()
        assert now() - began < 7.5

    run(main())


def test_a_wire_that_breaks_ends_the_link_at_both_ends_within_25_seconds(pair: Any) -> None:
    async def main() -> None:
        both = pair()
        a, b = await both.up()
        both.line.wires[1].is_cut = True  # b's TX: b hears a, a hears nothing
        began = now()
        b.send(b"lost")
        assert isinstance(await a.closed, LinkError)
        assert isinstance(await b.closed, LinkError)
        assert now() - began < 25

    run(main())


def test_a_half_open_line_is_named_by_who_is_not_heard(pair: Any) -> None:
    async def main() -> None:
        both = pair()
        both.line.wires[1].is_cut = True
        dialling = asyncio.create_task(both.a.connect())
        with pytest.raises(UnavailableError, match="we hear the other end, but it does not hear us"):
            await both.b.connect()
        with pytest.raises(UnavailableError, match="nobody answers"):
            await dialling

    run(main())


def test_a_line_that_returns_our_own_bytes_is_named(pair: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        both = pair()
        monkeypatch.setattr(both.line, "carry", lambda end, data, _: both.line.inject(end, data))
        with pytest.raises(UnavailableError, match="our own bytes come back"):
            await both.b.connect()

    run(main())


def test_silence_is_told_after_ten_seconds_and_the_port_is_free_again(pair: Any) -> None:
    async def main() -> None:
        both = pair()
        for _ in range(2):
            began = now()
            with pytest.raises(UnavailableError, match=r"b: nobody answers.*115200"):
                await both.b.connect()
            assert 9 < now() - began < 11

    run(main())


@pytest.mark.parametrize(
    ("ours", "theirs"), [(9600, 115_200), (115_200, 9600), (115_200, 57_600), (9600, 3_000_000)]
)
def test_another_baud_at_the_other_end_is_named_within_five_seconds(
    ours: int, theirs: int, pair: Any, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        both = pair(None, f"?baud={ours}", f"?baud={theirs}")
        await both.a.listen()
        dialling = asyncio.create_task(both.b.connect())
        await asyncio.sleep(5)
        assert "do both ends have the same baud" in caplog.text
        assert f"({ours} here)" in caplog.text
        with pytest.raises(UnavailableError):
            await dialling

    with caplog.at_level(logging.WARNING):
        run(main())


def test_who_dials_at_another_baud_than_one_who_dials_too_is_told_within_five_seconds(pair: Any) -> None:
    async def main() -> None:
        both = pair(None, "?baud=9600", "?baud=115200")
        other = asyncio.create_task(both.a.connect())
        began = now()
        with pytest.raises(UnavailableError, match=r"same baud and parity \(115200 here\)"):
            await both.b.connect()
        assert now() - began < 5
        with pytest.raises(UnavailableError):
            await other

    run(main())


def test_a_console_at_the_other_end_is_known_by_its_text(pair: Any) -> None:
    async def main() -> None:
        both = pair()

        async def console() -> None:
            while True:
                both.line.inject(1, b"\r\nDebian GNU/Linux 12 beaglebone ttyS0\r\n\r\nbeaglebone login: ")
                await asyncio.sleep(1)

        talking = asyncio.create_task(console())
        with pytest.raises(UnavailableError, match="a console or a boot loader uses the line"):
            await both.b.connect()
        talking.cancel()

    run(main())


def test_flow_control_that_lets_nothing_out_is_named(pair: Any) -> None:
    async def main() -> None:
        both = pair(None, "", "?flow=rtscts")
        dialling = asyncio.create_task(both.b.connect())
        await asyncio.sleep(0)
        both.line.hold(1, is_held=True)
        with pytest.raises(UnavailableError, match="does not raise CTS; try flow=none"):
            await dialling

    run(main())


def test_a_closed_gate_makes_the_peer_wait_and_loses_nothing(
    pair: Any, whole: Callable[[bytes], bytes]
) -> None:
    async def main() -> None:
        both = pair()
        a, b = await both.up()
        gate = Gate(asyncio.get_running_loop())
        gate.shut()
        a.gates.append(gate)
        for n in range(100):
            b.send(bytes([n]) * 500)
        await asyncio.sleep(40)
        assert len(a.messages) == 1
        assert not a.closed.done()
        gate.open()
        assert await a.wait(100) == [whole(bytes([n]) * 500) for n in range(100)]

    run(main())


def test_a_peer_that_takes_nothing_is_given_up_in_45_seconds_and_both_ends_say_why(
    pair: Any, whole: Callable[[bytes], bytes]
) -> None:
    async def main() -> None:
        both = pair()
        a, b = await both.up()
        gate = Gate(asyncio.get_running_loop())
        gate.shut()
        a.gates.append(gate)
        began = now()
        for n in range(100):
            waits = b.send(bytes([n]) * 500)
        assert str(await b.closed) == "the peer took nothing for 45 s"
        assert isinstance(await b.closed, LinkBrokenError)
        assert 45 <= now() - began < 50
        assert not waits.is_shut
        assert isinstance(await a.closed, LinkClosedError)
        assert a.messages == [whole(bytes(500))]
        again = await both.b.connect()
        again.send(b"after")
        assert await (await both.a.accepted(2)).wait() == [whole(b"after")]

    run(main())


def test_who_fills_the_link_is_told_to_wait_until_there_is_room(pair: Any) -> None:
    async def main() -> None:
        both = pair()
        a, b = await both.up()
        count = 0
        while (gate := b.send(bytes(1000))) is None:
            count += 1
        assert 2 <= count <= 6
        began = now()
        await gate.wait()
        assert 0.1 < now() - began < 1
        await a.wait(count + 1)

    run(main())


def test_a_link_that_ends_lets_its_senders_go_and_takes_no_more(pair: Any) -> None:
    async def main() -> None:
        both = pair()
        _, b = await both.up()
        while (gate := b.send(bytes(1000))) is None:
            pass
        both.line.unplug(1)
        await gate.wait()
        assert b.send(b"after the end") is None

    run(main())


def test_what_was_sent_before_the_close_arrives(pair: Any, whole: Callable[[bytes], bytes]) -> None:
    async def main() -> None:
        both = pair()
        a, b = await both.up()
        for n in range(10):
            b.send(bytes([n]) * 1000)
        b.link.close()
        assert await b.closed is None
        await a.closed
        assert a.messages == [whole(bytes([n]) * 1000) for n in range(10)]

    run(main())


def test_a_message_too_long_for_the_link_is_not_sent_and_the_link_stays(
    pair: Any, whole: Callable[[bytes], bytes], caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        both = pair()
        a, b = await both.up()
        assert b.send(bytes(2**20 + 1)) is None
        b.send(b"next")
        assert await a.wait() == [whole(b"next")]

    run(main())
    assert "not sent" in caplog.text


def test_what_goes_to_one_worker_keeps_its_order_whoever_is_to_answer(pair: Any) -> None:
    to_a = bytes.fromhex("83 81 82 00 41 61")
    answered_at = [bytes.fromhex(f"81 82 00 41 {n:02x}") for n in range(5)] + [b"\x80"]
    rng = random.Random(6)
    sent = [(to_a + rng.choice(answered_at), bytes([n]) * rng.choice([1, 400, 3000])) for n in range(60)]

    async def main() -> None:
        both = pair()
        a, b = await both.up()
        for head, payload in sent:
            gate = b.send(payload, head)
            if gate is not None and rng.random() < 0.3:
                await gate.wait()
        assert [found[-1] for found in await a.wait(60)] == list(range(60))
        b.send(bytes(3000), sent[0][0])
        b.send(b"x", sent[1][0][:6] + b"\x80")
        b.link.close()
        await a.closed
        assert len(a.messages) == 62

    run(main())


def test_a_small_message_to_another_worker_passes_a_large_one(pair: Any) -> None:
    async def main() -> float:
        both = pair()
        a, b = await both.up()
        b.send(bytes(100_000))
        await asyncio.sleep(1)
        began = now()
        b.send(b"key", bytes.fromhex("83 81 82 00 41 62 80"))
        await a.wait(1)
        assert a.messages[0].endswith(b"key")
        return now() - began

    assert run(main()) < 0.12


def test_garbage_at_full_rate_neither_ends_nor_fills_a_listener(pair: Any) -> None:
    async def main() -> None:
        both = pair()
        await both.a.listen()
        rng = random.Random(9)
        for _ in range(500):
            both.line.inject(0, rng.randbytes(1152))
            await asyncio.sleep(0.1)
        await both.b.connect()

    run(main())


def test_dialling_that_is_given_up_frees_the_port(pair: Any) -> None:
    async def main() -> None:
        both = pair()
        dialling = asyncio.create_task(both.b.connect())
        await asyncio.sleep(1)
        dialling.cancel()
        with pytest.raises(asyncio.CancelledError):
            await dialling
        await both.a.listen()
        await both.b.connect()

    run(main())


def test_a_listener_that_is_closed_takes_nobody_and_frees_its_port(pair: Any) -> None:
    async def main() -> None:
        both = pair()
        await both.a.listen()
        await both.a.listener.close()
        with pytest.raises(UnavailableError, match="nobody answers"):
            await both.b.connect()
        await both.a.listen()
        await both.b.connect()

    run(main())


def test_a_wrong_option_is_told_before_the_port_is_opened(end: Any) -> None:
    async def main() -> None:
        with pytest.raises(UsageError, match="parity=mark"):
            await end("a", None, "?parity=mark").connect()

    run(main())
