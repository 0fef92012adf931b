"""What ``ockamlite send`` does."""

from __future__ import annotations

import asyncio
import re
import sys
import time
from typing import TYPE_CHECKING

from ockamlite import bare
from ockamlite.cli.run.logs import iso_time, set_up
from ockamlite.cli.run.loop import run_to_end
from ockamlite.cli.run.output import for_terminal, print_bytes, print_result
from ockamlite.cli.run.serving import first_links, running_node, transports
from ockamlite.cli.run.state import State, open_state
from ockamlite.cli.run.trust import trust_for_routes, warn_of_everyone
from ockamlite.cli.run.ways import opens_channel, read_hops
from ockamlite.errors import AnswerTimeoutError, DecodeError, LinkClosedError, OckamError, UsageError
from ockamlite.paths import open_hops
from ockamlite.secure_channels.trust import TrustEveryone

if TYPE_CHECKING:
    from collections.abc import Callable

    from ockamlite.cli.options import Common
    from ockamlite.links import Link
    from ockamlite.node import Node
    from ockamlite.routing.endpoint import Endpoint
    from ockamlite.routing.hops import Hop
    from ockamlite.routing.route import Route
    from ockamlite.secure_channels.channel import SecureChannel
    from ockamlite.secure_channels.trust import Trust
    from ockamlite.workers.mailbox import Received

_HINT = "the peer may not be there, may not offer this, or may not trust us"


def run(
    common: Common,
    *,
    route: str,
    text: str,
    hex: bool,  # noqa: A002  (the option's name)
    raw: bool,
    timeout: float,
    **_: object,
) -> None:
    """Send, wait, print."""
    if hex and raw:
        raise UsageError("--hex and --raw exclude each other")
    set_up(common)
    hops = read_hops("ROUTE", route)
    payload = _payload(text, hex, raw)
    state = open_state(common)
    trust = trust_for_routes(common, state, [opens_channel(hops)])
    warn_of_everyone(trust)
    reply, seconds = run_to_end(_ask(state, hops, payload, trust, timeout))
    shown = _shown(reply.payload, hex, raw)
    if raw and not common.json:
        print_bytes(reply.payload)
        return
    print_result(
        common,
        for_terminal(next(iter(shown.values()))),
        event="reply",
        time=iso_time(),
        **shown,
        peer=str(reply.peer) if reply.peer is not None else None,
        return_route=str(reply.return_route),
        rtt_ms=round(1000 * seconds, 3),
    )


def _payload(text: str, as_hex: bool, raw: bool) -> bytes:
    if text == "-":
        data = sys.stdin.buffer.read()
        if raw:
            return data
        try:
            text = data.decode()
        except UnicodeDecodeError as error:
            raise UsageError("stdin is not UTF-8 text", hint="--raw sends bytes as they are") from error
        text = text.removesuffix("\n").removesuffix("\r")
    if as_hex:
        digits = "".join(text.split())
        wrong = re.search(r"[^0-9a-fA-F]", digits)
        if wrong is not None or len(digits) % 2:
            reason = f"{wrong[0]!r} is no hex digit" if wrong is not None else "an odd number of digits"
            raise UsageError(f"bad hex: {reason}", hint="two hex digits for each byte")
        return bytes.fromhex(digits)
    try:
        return text.encode() if raw else bare.encode_str(text)
    except UnicodeEncodeError as error:
        raise UsageError("the text is not UTF-8", hint="--hex takes any bytes") from error


def _shown(payload: bytes, as_hex: bool, raw: bool) -> dict[str, str]:
    """The reply as it is printed, with its key."""
    if as_hex:
        return {"hex": payload.hex()}
    if raw:
        try:
            return {"text": payload.decode()}
        except UnicodeDecodeError:
            return {"hex": payload.hex()}
    try:
        return {"text": bare.decode_str(payload)}
    except DecodeError as error:
        raise DecodeError(
            f"the reply of {len(payload)} bytes is not a string: {error}", hint="--hex shows any reply"
        ) from error


async def _ask(
    state: State, hops: tuple[Hop, ...], payload: bytes, trust: Trust | None, timeout_s: float
) -> tuple[Received, float]:
    """Open the route, ask, and give up at once when its link ends."""
    async with running_node(state, transports(first_links([hops]))) as node:
        asking = _Asking(node, timeout_s)
        task = asyncio.ensure_future(asking.ask(hops, payload, trust))
        asking.on_link_lost = task.cancel
        try:
            # What waits inside gives up first, and knows why.
            async with asyncio.timeout(timeout_s + 0.2):
                return await task
        except TimeoutError as error:
            raise AnswerTimeoutError(f"no answer within {timeout_s:g} s", hint=_HINT) from error
        except (asyncio.CancelledError, LinkClosedError) as error:
            if asking.lost is not None:
                raise asking.lost from error
            raise


class _Asking:
    """One question, and the link it goes over."""

    def __init__(self, node: Node, timeout_s: float) -> None:
        self.on_link_lost: Callable[[], object] = bool
        """Called when nothing will come any more."""
        self._node = node
        self._link: Link | None = None
        self._loop = asyncio.get_running_loop()
        self._until = self._loop.time() + timeout_s

    @property
    def lost(self) -> OckamError | None:
        """Why the link has ended before an answer came; None while it lives."""
        link = self._link
        if link is None or not link.closed.done():
            return None
        return link.error or LinkClosedError(link.closed.result())

    @property
    def _left_s(self) -> float:
        return max(0.1, round(self._until - self._loop.time(), 1))

    async def ask(self, hops: tuple[Hop, ...], payload: bytes, trust: Trust | None) -> tuple[Received, float]:
        """Open the route and send the message; return the answer and how long it took in seconds."""
        opened = await open_hops(
            hops, connect=self._connect, secure=self._secure, trust=trust, relay_trust=TrustEveryone()
        )
        began = time.perf_counter()
        reply = await self._node.ask(opened.route, payload, timeout_s=self._left_s)
        return reply, time.perf_counter() - began

    async def _connect(self, endpoint: Endpoint) -> Link:
        link = await self._node.connect(endpoint)
        self._link = link
        link.closed.add_done_callback(lambda _: self.on_link_lost())
        return link

    async def _secure(self, route: Route, trust: Trust) -> SecureChannel:
        return await self._node.secure_channel(route, trust=trust, timeout_s=self._left_s)
