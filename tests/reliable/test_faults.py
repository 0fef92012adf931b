"""Two ends over a channel that does its worst, as a state machine.

Whatever is lost, repeated, reordered, damaged or begun anew: a message arrives once, as it was sent and
in order with those of its flow, or the end that sent it is told that the link or its peer began anew.
"""

from __future__ import annotations

import random
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from ockamlite.cbor import bytes_head
from ockamlite.routing.codec import encode_message_head
from ockamlite.routing.route import Route
from ockamlite.wire.reliable.engine import ReliableLink
from ockamlite.wire.reliable.events import LinkDown, LinkUp, MessageReceived, PeerRestarted
from ockamlite.wire.reliable.profile import BLE, SERIAL, Profile

SIDES = st.sampled_from((0, 1))
ROUTES = [(Route.of(f"to{flow}"), Route.of(f"back{flow}", "further")) for flow in range(4)]
HEALED_S = 120.0


def damage(frame: bytes, kind: str, chance: random.Random) -> bytes:
    """Damage that a 16-bit check always finds: up to three bits anywhere, or a burst of 16."""
    bits = int.from_bytes(frame, "big")
    size = len(frame) * 8
    if kind == "bits":
        for bit in chance.sample(range(size), chance.randint(1, 3)):
            bits ^= 1 << bit
    else:
        bits ^= chance.randint(1, 0xFFFF) << chance.randrange(size - 15)
    return bits.to_bytes(len(frame), "big")


class WorstChannel(RuleBasedStateMachine):
    """Engines at both ends; ``air[n]`` holds what end ``n`` sent and nobody got yet."""

    @initialize(profile=st.sampled_from((SERIAL, BLE)), seed=st.integers(0, 2**32 - 1), up=st.booleans())
    def begin(self, profile: Profile, seed: int, up: bool) -> None:
        self.now = 0.0
        self.profile = profile
        self.chance = random.Random(seed)
        self.ends = [self.engine(), self.engine()]
        self.air: list[list[bytes]] = [[], []]
        self.old: list[list[bytes]] = [[], []]
        """What has been delivered, or lost, and may come again."""
        self.sent: dict[bytes, tuple[int, int]] = {}
        """Flow and number of every message there ever was."""
        self.owed: list[set[int]] = [set(), set()]
        """What end ``n`` sent in its present session and was not told to be lost."""
        self.arrived: set[int] = set()
        self.last: list[dict[int, int]] = [{}, {}]
        """The newest message of each flow that came from end ``n``."""
        if up:
            self.wait(0.0)
            for side in (0, 1, 0, 1):
                self.transmit(side, 10_000)
                self.arrive(side, 10)

    def engine(self) -> ReliableLink:
        return ReliableLink(self.profile, session=self.chance.getrandbits(32), now=self.now)

    # -- what may happen -------------------------------------------------------------------------

    @rule(side=SIDES, flow=st.integers(0, 3), size=st.sampled_from((0, 1, 60, 300, 700, 3000)))
    def send(self, side: int, flow: int, size: int) -> None:
        number = len(self.sent) + 1
        payload = number.to_bytes(4, "big") + self.chance.randbytes(size)
        head = encode_message_head(*ROUTES[flow]) + bytes_head(len(payload))
        self.ends[side].send(head, payload, self.now)
        self.sent[head + payload] = flow, number
        self.owed[side].add(number)

    @rule(side=SIDES, budget=st.sampled_from((10, 60, 300, 2000, 10_000)))
    def transmit(self, side: int, budget: int) -> None:
        frames = self.ends[side].frames_to_send(self.now, budget)
        assert sum(map(len, frames)) <= budget
        self.air[side] += frames

    @rule(side=SIDES, count=st.integers(1, 20))
    def arrive(self, side: int, count: int) -> None:
        for frame in self.air[side][:count]:
            self.give(1 - side, frame)
        self.old[side] += self.air[side][:count]
        del self.air[side][:count]

    @precondition(lambda self: any(self.air))
    @rule(side=SIDES, at=st.integers(0, 20))
    def arrive_out_of_order(self, side: int, at: int) -> None:
        if self.air[side]:
            frame = self.air[side].pop(at % len(self.air[side]))
            self.old[side].append(frame)
            self.give(1 - side, frame)

    @precondition(lambda self: any(self.air))
    @rule(side=SIDES, at=st.integers(0, 20))
    def lose(self, side: int, at: int) -> None:
        if self.air[side]:
            self.old[side].append(self.air[side].pop(at % len(self.air[side])))
            self.ends[1 - side].bad_frame(self.now)

    @precondition(lambda self: any(self.old))
    @rule(side=SIDES, at=st.integers(0, 1000), reflected=st.booleans())
    def arrive_late_or_again(self, side: int, at: int, reflected: bool) -> None:
        if self.old[side]:
            frame = self.old[side][at % len(self.old[side])]
            self.give(side if reflected else 1 - side, frame)

    @precondition(lambda self: any(self.old))
    @rule(side=SIDES, at=st.integers(0, 1000), kind=st.sampled_from(("bits", "burst")))
    def arrive_damaged(self, side: int, at: int, kind: str) -> None:
        frames = self.air[side] or self.old[side]
        if frames:
            self.give(1 - side, damage(frames[at % len(frames)], kind, self.chance))

    @rule(side=SIDES, garbage=st.binary(max_size=40))
    def arrive_from_nowhere(self, side: int, garbage: bytes) -> None:
        self.give(side, garbage)

    @rule(seconds=st.sampled_from((0.01, 0.03, 0.3, 1.0, 6.0, 20.0)))
    def wait(self, seconds: float) -> None:
        self.now += seconds
        for side in (0, 1):
            due = self.ends[side].next_timer()
            if due is not None and due <= self.now:
                self.told(side, self.ends[side].on_timer(self.now))

    @rule(side=SIDES)
    def restart(self, side: int) -> None:
        self.ends[side] = self.engine()
        self.owed[side].clear()

    @rule(side=SIDES)
    def hold(self, side: int) -> None:
        self.ends[side].hold()

    @rule(side=SIDES)
    def release(self, side: int) -> None:
        self.told(side, self.ends[side].release(self.now))

    # -- what must hold --------------------------------------------------------------------------

    def give(self, side: int, frame: bytes) -> None:
        self.told(side, self.ends[side].receive(frame, self.now))

    def told(self, side: int, events: list[Any]) -> None:
        other = 1 - side
        for event in events:
            match event:
                case MessageReceived(message):
                    assert message in self.sent, "nobody sent that"
                    flow, number = self.sent[message]
                    assert number not in self.arrived, "came twice"
                    assert number > self.last[other].get(flow, 0), "came out of order"
                    self.arrived.add(number)
                    self.last[other][flow] = number
                case PeerRestarted():
                    self.owed[side].clear()
                case LinkDown():
                    self.restart(side)
                case LinkUp():
                    pass
                case _:
                    raise AssertionError(event)

    @invariant()
    def timers_are_not_missed(self) -> None:
        for end in getattr(self, "ends", ()):
            assert end.is_up or not end.is_closed

    def teardown(self) -> None:
        """From now on everything arrives: what is owed must come."""
        if not hasattr(self, "ends"):
            return
        self.air = [[], []]
        for side in (0, 1):
            self.release(side)
        end = self.now + HEALED_S
        while self.now < end:
            moved = True
            while moved:
                moved = False
                for side in (0, 1):
                    for frame in self.ends[side].frames_to_send(self.now, 4000):
                        moved = True
                        self.give(1 - side, frame)
            if all(e.is_up and not e.queued_bytes for e in self.ends) and not self.missing():
                return
            self.now = min(due for e in self.ends if (due := e.next_timer()) is not None)
            self.wait(0.0)
        raise AssertionError(f"after {HEALED_S} s without a fault {len(self.missing())} have not come")

    def missing(self) -> set[int]:
        return (self.owed[0] | self.owed[1]) - self.arrived


TestWorstChannel = WorstChannel.TestCase
TestWorstChannel.settings = settings(
    max_examples=60,
    stateful_step_count=60,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=list(HealthCheck),
)


FAULTS = st.fixed_dictionaries(
    {
        "lose": st.integers(0, 6),
        "arrive_out_of_order": st.integers(0, 6),
        "arrive_late_or_again": st.integers(0, 6),
        "arrive_damaged": st.integers(0, 6),
        "restart": st.sampled_from((0, 0, 1, 2)),
        "hold": st.sampled_from((0, 0, 1)),
    }
)
STEPS = 1500


@settings(max_examples=120, deadline=None, derandomize=True, database=None)
@given(profile=st.sampled_from((SERIAL, BLE)), faults=FAULTS, seed=st.integers(0, 2**32 - 1))
def test_long_runs_with_any_mix_of_faults(profile: Profile, faults: dict[str, int], seed: int) -> None:
    chance = random.Random(seed)
    world = WorstChannel()
    world.begin(profile, seed, up=True)
    weights = {"send": 8, "transmit": 30, "arrive": 30, "wait": 10, **faults, "release": 4 * faults["hold"]}
    names, shares = list(weights), list(weights.values())
    for name in chance.choices(names, shares, k=STEPS):
        side, at = chance.randrange(2), chance.randrange(1000)
        match name:
            case "send":
                world.send(side, chance.randrange(4), chance.choice((0, 1, 60, 300, 3000)))
            case "transmit":
                world.transmit(side, chance.choice((60, 300, 2000)))
            case "arrive":
                world.arrive(side, chance.randint(1, 4))
            case "wait":
                world.wait(
                    chance.choice((0.01, 0.03, 0.1, 0.3) if chance.random() < 0.99 else (6.0, 6.0, 20.0))
                )
            case "lose" | "arrive_out_of_order":
                getattr(world, name)(side, at)
            case "arrive_late_or_again":
                world.arrive_late_or_again(side, at, reflected=chance.random() < 0.1)
            case "arrive_damaged":
                world.arrive_damaged(side, at, chance.choice(("bits", "burst")))
            case _:
                if name != "restart" or chance.random() < 0.3:
                    getattr(world, name)(side)
    world.teardown()
