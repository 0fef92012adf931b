"""Gates: whoever hands on too much waits, in order, and is let through a few at a time."""

from __future__ import annotations

import asyncio

from ockamlite.wire.gate import Gate


async def turns(count: int) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


async def test_an_open_gate_lets_through_at_once() -> None:
    gate = Gate(asyncio.get_running_loop())
    await gate.wait()
    passed: list[int] = []
    gate.when_open(lambda: passed.append(1))
    await turns(2)
    assert passed == [1]


async def test_a_shut_gate_holds_and_then_lets_through_in_order_a_few_per_turn() -> None:
    gate = Gate(asyncio.get_running_loop())
    gate.shut()
    passed: list[int] = []
    for number in range(10):
        gate.when_open(lambda number=number: passed.append(number))  # type: ignore[misc]
    await turns(5)
    assert passed == []
    gate.open()
    await turns(1)
    assert 0 < len(passed) < 10
    await turns(10)
    assert passed == list(range(10))


async def test_a_gate_shut_again_by_the_first_holds_the_others() -> None:
    gate = Gate(asyncio.get_running_loop())
    gate.shut()
    passed: list[int] = []

    def passes() -> None:
        passed.append(1)
        gate.shut()

    for _ in range(3):
        gate.when_open(passes)
    for expected in (1, 2, 3):
        gate.open()
        await turns(5)
        assert len(passed) == expected


async def test_a_cancelled_waiter_keeps_nobody_waiting() -> None:
    gate = Gate(asyncio.get_running_loop())
    gate.shut()
    first, second = asyncio.ensure_future(gate.wait()), asyncio.ensure_future(gate.wait())
    await turns(1)
    first.cancel()
    gate.open()
    await second
    assert first.cancelled()


async def test_of_two_let_through_together_the_one_that_came_too_late_is_the_next() -> None:
    gate = Gate(asyncio.get_running_loop())
    gate.shut()
    passed: list[str] = []

    async def sends(name: str) -> None:
        await gate.wait()
        passed.append(name)
        gate.shut()

    tasks = [asyncio.ensure_future(sends(name)) for name in "abc"]
    await turns(1)
    for count in (1, 2, 3):
        gate.open()
        await turns(5)
        assert passed == ["a", "b", "c"][:count]
    await asyncio.gather(*tasks)
