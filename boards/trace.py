"""The trace of a run: every message on every hop, when, how long, where to, and whether it was readable.

Recorded by :mod:`boards.tap`; drawn by :mod:`boards.trace_picture`. Addresses that were drawn at random are
shown as ``~1``, ``~2``, … in the order in which they turned up, so that two runs compare.
"""

from __future__ import annotations

import json
from collections import defaultdict, deque
from pathlib import Path
from typing import TYPE_CHECKING, Final

from boards.trace_picture import as_svg, as_text
from boards.trace_step import Contents, Step
from ockamlite.errors import DecodeError
from ockamlite.routing.codec import decode_message

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from os import PathLike

    from ockamlite.routing.address import Address
    from ockamlite.routing.route import Route

MOST_BYTES: Final = 64 * 1024 * 1024
_STEP_BYTES: Final = 500
"""What a step costs besides its message."""


class Trace:
    """What happened on the hops of a run, in order.

    Args:
        most_bytes: how much is kept; what comes later is not recorded (``is_full``).
    """

    def __init__(self, *, most_bytes: int = MOST_BYTES) -> None:
        self.steps: list[Step] = []
        self.nodes: list[str] = []
        """Names, in the order of their columns; nodes that are not here are added when they turn up."""
        self.is_recording = True
        self.is_full = False
        self.now: Callable[[], float] = lambda: 0.0
        """The clock; an event loop's time."""
        self.contents_of: Callable[[Address], Contents] = lambda _: Contents.PLAIN
        """What messages to an address hold."""
        self.is_random: Callable[[Address], bool] = lambda _: False
        """True for addresses that were drawn."""
        self._began: float | None = None
        self._left_bytes = most_bytes
        self._numbers: dict[tuple[str, str, str], int] = defaultdict(int)
        self._under_way: dict[tuple[str, str, str, bytes], deque[int]] = defaultdict(deque)
        self._names: dict[Address, str] = {}

    def __len__(self) -> int:
        """How many steps there are."""
        return len(self.steps)

    def __iter__(self) -> Iterator[Step]:
        """The steps, in order."""
        return iter(self.steps)

    # -- asking ---------------------------------------------------------------------------------

    def on(self, link: str = "", *, event: str = "sent", source: str = "", target: str = "") -> list[Step]:
        """The messages of a link, or all; empty arguments stand for any."""
        return [
            step
            for step in self.steps
            if step.contents is not None
            and event in ("", step.event)
            and link in ("", step.link)
            and source in ("", step.source)
            and target in ("", step.target)
        ]

    def links_that_saw(self, text: bytes) -> set[str]:
        """The links on which these bytes passed as they are, whatever the trace takes for sealed."""
        return {step.link for step in self.steps if text in step.data}

    def lost(self) -> list[Step]:
        """Messages that were sent and have not arrived."""
        arrived = {(s.link, s.source, s.target, s.number) for s in self.steps if s.event == "arrived"}
        return [
            step
            for step in self.steps
            if step.event == "sent" and (step.link, step.source, step.target, step.number) not in arrived
        ]

    # -- writing --------------------------------------------------------------------------------

    def json_lines(self) -> str:
        """The steps as JSON, one object a line."""
        return "".join(f"{json.dumps(step.values())}\n" for step in self.steps)

    def text(self, *, most: int = 500) -> str:
        """A picture for terminals, of the last ``most`` messages."""
        return as_text(self.steps, self.nodes, most)

    def svg(self, *, most: int = 500) -> str:
        """A picture for documents, of the last ``most`` messages."""
        return as_svg(self.steps, self.nodes, most)

    def write(self, path: str | PathLike[str]) -> None:
        """Write it: ``.svg`` a picture, ``.txt`` the same for terminals, anything else JSON lines."""
        forms = {".svg": self.svg, ".txt": self.text}
        path = Path(path)
        path.write_text(forms.get(path.suffix, self.json_lines)(), encoding="utf-8")

    # -- recording ------------------------------------------------------------------------------

    def sent(self, link: str, source: str, target: str, data: bytes) -> None:
        """A message leaves ``source``."""
        if not self.is_recording:
            return
        way = (link, source, target)
        self._numbers[way] += 1
        number = self._numbers[way]
        self._under_way[*way, data].append(number)
        self._message("sent", way, number, data)

    def arrived(self, link: str, source: str, target: str, data: bytes) -> None:
        """A message comes to ``target``."""
        if not self.is_recording:
            return
        way = (link, source, target)
        numbers = self._under_way.get((*way, data))
        self._message("arrived", way, numbers.popleft() if numbers else None, data)

    def link_changed(self, event: str, link: str, here: str, there: str, reason: str = "") -> None:
        """A link came up, or went down, as ``here`` sees it."""
        self._add(Step(self._time(), event, link, here, there, reason=reason))

    def _message(self, event: str, way: tuple[str, str, str], number: int | None, data: bytes) -> None:
        try:
            onward, back, _ = decode_message(data)
        except DecodeError:
            step = Step(self._time(), event, *way, number, len(data), contents=Contents.DAMAGED, data=data)
        else:
            contents = self.contents_of(onward[-1]) if onward else Contents.PLAIN
            routes = (self._route(onward), self._route(back))
            step = Step(self._time(), event, *way, number, len(data), *routes, contents, data=data)
        self._add(step)

    def _add(self, step: Step) -> None:
        self._left_bytes -= step.size + _STEP_BYTES
        if self._left_bytes < 0:
            self.is_full, self.is_recording = True, False
        if not self.is_recording:
            return
        self.nodes += [name for name in (step.source, step.target) if name not in self.nodes]
        self.steps.append(step)

    def _time(self) -> float:
        now = self.now()
        if self._began is None:
            self._began = now
        return now - self._began

    def _route(self, route: Route) -> tuple[str, ...]:
        return tuple(self._name(address) for address in route)

    def _name(self, address: Address) -> str:
        if self.is_random(address):
            return self._names.setdefault(address, f"~{len(self._names) + 1}")
        return address.name if address.is_local else str(address)
