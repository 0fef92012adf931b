"""A node: a process's addresses, links, channels, workers and portals, and who ends them all."""

from __future__ import annotations

import asyncio
import logging
import signal
import time
from typing import TYPE_CHECKING, Self

from ockamlite.errors import AlreadyExistsError, ClosedError, UnavailableError, UsageError
from ockamlite.forwarding import Forwarder
from ockamlite.identities.clock import check_clock
from ockamlite.identities.local import LocalIdentity
from ockamlite.identities.store import MemoryStore
from ockamlite.limits import LIMITS
from ockamlite.links import Link, Listener
from ockamlite.paths import Opened, Path, open_hops
from ockamlite.portals.inlet import FixedWay, Inlet, Way
from ockamlite.portals.outlet import Outlet
from ockamlite.portals.protocol import HEAD_BYTES
from ockamlite.portals.surroundings import Surroundings
from ockamlite.relays.remote import RemoteRelay
from ockamlite.relays.service import RelayService
from ockamlite.routing.address import Address
from ockamlite.routing.endpoint import Endpoint, HostPort
from ockamlite.routing.hops import parse_hops
from ockamlite.routing.message import Flow
from ockamlite.routing.route import Route
from ockamlite.routing.router import Router
from ockamlite.secure_channels.handshake import SecureChannels
from ockamlite.secure_channels.trust import TrustEveryone
from ockamlite.services import echo, uppercase
from ockamlite.wire.ports import holder_of_port
from ockamlite.workers.context import Context, ask
from ockamlite.workers.mailbox import Received, encode_body
from ockamlite.workers.worker import as_worker, run

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Coroutine, Iterable
    from types import TracebackType

    from ockamlite.events import Event, OnEvent
    from ockamlite.identities.store import Store
    from ockamlite.limits import Limits
    from ockamlite.routing.hops import Hop
    from ockamlite.routing.router import AccessControl
    from ockamlite.secure_channels.channel import SecureChannel
    from ockamlite.secure_channels.listener import SecureChannelListener
    from ockamlite.secure_channels.trust import Trust
    from ockamlite.wire import link as wire
    from ockamlite.wire.link import Transport
    from ockamlite.workers.worker import Handle, Worker

logger = logging.getLogger(__name__)

_CLOSE_S = 1.5


class Node:
    """A process's part of the network. Use it as ``async with Node() as node:``.

    Nothing is reachable from outside until it is opened: workers, outlets and listeners to the links
    and channels that may use them.

    Args:
        identity: who this node is in secure channels; a fresh one that is never stored if absent.
        store: where identities of peers are remembered; memory if absent.
        transports: what makes links, in addition to those installed (entry point
            ``ockamlite.transports``).
        limits: bounds on what peers can make us hold or wait for.
        on_event: called with what an operator wants to know.
        hide_lengths: pad what goes through secure channels, so that its length tells less.
    """

    def __init__(
        self,
        *,
        identity: LocalIdentity | None = None,
        store: Store | None = None,
        transports: Iterable[Transport] = (),
        limits: Limits = LIMITS,
        on_event: OnEvent | None = None,
        hide_lengths: bool = False,
    ) -> None:
        self.limits = limits
        self.router = Router()
        self.store: Store = store if store is not None else MemoryStore()
        self.identity = identity if identity is not None else LocalIdentity.ephemeral(int(time.time()))
        self._transports: dict[str, Transport] = {transport.kind: transport for transport in transports}
        self._on_event = on_event
        longest = max(limits.portal_chunk_bytes, limits.portal_bulk_chunk_bytes)
        self._surroundings = Surroundings(
            self.router, limits, self._emit, self._start, bytearray(HEAD_BYTES + longest)
        )
        self._tasks: set[asyncio.Task[None]] = set()
        self._links: set[Link] = set()
        self._listeners: list[Listener] = []
        self._portals: list[Inlet | Outlet] = []
        self._relays: list[RelayService] = []
        self._services: list[Address] = []
        self._contexts: dict[Address, tuple[Context, asyncio.Task[None] | None]] = {}
        self._running = False
        self._ended: asyncio.Future[None] | None = None
        self._echo = Address.local("echo")
        self._channels = SecureChannels(
            self.router, limits, self.identity, self.store, self._emit, pads=hide_lengths
        )
        self._forwarder: Forwarder | None = None

    # -- life -----------------------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        """Start the node.

        Raises:
            AlreadyExistsError: it was started already.
            StateError: this machine's clock stands where it cannot be.
        """
        if self._running:
            raise AlreadyExistsError("the node has been started already")
        check_clock(time.time())
        self._running = True
        self._ended = asyncio.get_running_loop().create_future()
        self.router.add(self._echo, echo(self.router))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop the node and everything in it."""
        await self.close()

    async def close(self) -> None:
        """Stop accepting, tell peers, close everything; may be called twice. Takes 2 s at most."""
        if self._ended is None:
            return
        if not self._running:
            await asyncio.shield(self._ended)
            return
        self._running = False
        try:
            await self._close()
        finally:
            for context, _ in self._contexts.values():
                self.router.remove(context.address)
                context.mailbox.close()
            self._contexts.clear()
            for address in (self._echo, *self._services):
                self.router.remove(address)
            self._ended.set_result(None)

    async def _close(self) -> None:
        for portal in self._portals:
            await portal.close()
        for relay in self._relays:
            relay.close()
        # Owners of paths end before what they own, or they would see it end and complain.
        tasks = [task for task in self._tasks if task is not asyncio.current_task()]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=_CLOSE_S)
        self._channels.close()
        links = list(self._links)
        for listener in self._listeners:
            await listener.close()
        for link in links:
            link.close()
        if links:
            await asyncio.wait([link.closed for link in links], timeout=_CLOSE_S)

    def _check_running(self) -> None:
        """Refuse to begin anything on a node that is not open.

        Raises:
            ClosedError: the node is closed, or was never started.
        """
        if not self._running:
            raise ClosedError(
                "the node is closed" if self._ended is not None else "the node was not started",
                hint="use it inside 'async with Node() as node:'",
            )

    async def until_interrupted(self) -> None:
        """Wait for SIGINT or SIGTERM; for programs that only serve. Call it in the main thread."""
        loop = asyncio.get_running_loop()
        interrupted = asyncio.Event()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, interrupted.set)
        try:
            await interrupted.wait()
        finally:
            for number in (signal.SIGINT, signal.SIGTERM):
                loop.remove_signal_handler(number)

    def spawn(self, coroutine: Coroutine[object, object, None], name: str) -> None:
        """Run a task that ends with the node at the latest; what it raises is logged.

        Raises:
            ClosedError: the node is closed.
        """
        _ = self._start(coroutine, name)

    def _start(self, coroutine: Coroutine[object, object, None], name: str) -> asyncio.Task[None]:
        """The same, for those who may cancel the task.

        Raises:
            ClosedError: the node is closed.
        """
        try:
            self._check_running()
        except ClosedError:
            coroutine.close()
            raise
        task = asyncio.get_running_loop().create_task(coroutine, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._task_done)
        return task

    def _task_done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            logger.error("%s failed: %s", task.get_name(), error, exc_info=error)

    def _emit(self, event: Event) -> None:
        if self._on_event is None:
            return
        try:
            self._on_event(event)
        except Exception:  # the user's code; nothing of ours may stop half-way because of it
            logger.exception("the receiver of events failed on %s", event.kind)

    # -- links ----------------------------------------------------------------------------------

    def _transport(self, kind: str) -> Transport:
        if kind not in self._transports:
            # Imported here: two megabytes that a node given its transports does not need.
            from importlib.metadata import entry_points

            installed = {entry.name: entry for entry in entry_points(group="ockamlite.transports")}
            if kind not in installed:
                known = ", ".join(sorted({*self._transports, *installed}))
                raise UsageError(f"no transport for {kind!r} is installed; installed are {known}")
            self._transports[kind] = installed[kind].load()(self.limits)
        return self._transports[kind]

    async def connect(self, endpoint: str | Endpoint) -> Link:
        """Open a link to another node, e.g. ``tcp:host:4000``. It is not opened anew when it ends.

        Raises:
            ClosedError: the node is closed, or was never started.
            LinkError: it cannot be reached.
            UsageError: the endpoint is malformed, or nobody makes links of its kind.
        """
        self._check_running()
        where = Endpoint.parse(endpoint) if isinstance(endpoint, str) else endpoint
        made = await self._transport(where.kind).connect(where)
        try:
            self._check_running()
        except ClosedError as error:
            made.abort(error)
            raise
        link = Link(self.router, made, self.limits, self._emit)
        self.router.open(self._echo, (link.flow,))
        self._adopt(link)
        return link

    def _adopt(self, link: Link) -> None:
        self._links.add(link)
        link.start(self._links.discard)

    async def listen(self, endpoint: str | Endpoint) -> Listener:
        """Accept links, e.g. at ``tcp:127.0.0.1:0``. They reach ``echo`` and what is opened to them.

        Raises:
            ClosedError: the node is closed, or was never started.
            UnavailableError: the endpoint cannot be bound.
            UsageError: the endpoint is malformed, or nobody makes links of its kind.
        """
        self._check_running()
        where = Endpoint.parse(endpoint) if isinstance(endpoint, str) else endpoint
        listener = Listener(self.limits)

        def accept(made: wire.Link) -> None:
            if not self._running or not listener.has_room():
                made.abort(UnavailableError("this node has as many links as it takes"))
                return
            link = Link(self.router, made, self.limits, self._emit, parent=listener.flow)
            listener.add(link)
            self._adopt(link)

        listener.bound(await self._transport(where.kind).listen(where, accept))
        try:
            self._check_running()
        except ClosedError:
            await listener.close()
            raise
        self.router.open(self._echo, (listener.flow,))
        self._listeners = [known for known in self._listeners if known.flow.closed is None]
        self._listeners.append(listener)
        return listener

    def forward(self, *allowed: str) -> None:
        """Let messages that pass through go out over these links: ``tcp``, ``tcp:10.0.0.7:4000``."""
        if self._forwarder is None:
            self._forwarder = Forwarder(self.router, self.limits, self.connect, self.spawn)
            self.router.forward = self._forwarder.forward
        self._forwarder.allow(allowed)

    # -- channels and routes --------------------------------------------------------------------

    async def secure_channel(self, route: Route, *, trust: Trust, timeout_s: float = 10.0) -> SecureChannel:
        """Open a secure channel to the listener at the end of ``route``.

        Raises:
            ClosedError: the node is closed, or was never started.
            TrustError: somebody answered whom ``trust`` refuses.
            VerificationError: somebody answered whose identity does not hold.
            AnswerTimeoutError: nobody answered.
            LinkClosedError: the link or channel under it ended.
            NotFoundError: the route's first hop does not exist.
        """
        self._check_running()
        channel = await self._channels.connect(route, trust, timeout_s)
        self.router.open(self._echo, (channel.flow,))
        return channel

    def secure_channel_listener(
        self, name: str = "secure_channel_listener", *, trust: Trust
    ) -> SecureChannelListener:
        """Accept secure channels at the address ``name``, once it is opened to somebody.

        Raises:
            AlreadyExistsError: the address is taken.
            ClosedError: the node is closed, or was never started.
            StateError: our key can be neither read nor made.
        """
        self._check_running()
        listener = self._channels.listen(name, trust)
        self.router.open(self._echo, (listener.flow,))
        return listener

    def path(
        self,
        hops: str | tuple[Hop, ...],
        *,
        trust: Trust | None = None,
        relay_trust: Trust | None = None,
    ) -> Path:
        """Keep a route open: dial its link, open its channels, again whenever they end.

        Args:
            hops: e.g. ``tcp:relay:4000,forward_to_pi,secure:secure_channel_listener,outlet``.
            trust: whom the last ``secure:`` hop may lead to.
            relay_trust: whom ``secure:`` hops before it may lead to; anyone if absent.

        Raises:
            UsageError: the hops are malformed.
        """
        found = parse_hops(hops) if isinstance(hops, str) else hops
        path = Path(found, lambda: self.open_hops(found, trust=trust, relay_trust=relay_trust))
        self.spawn(path.run(), f"path {path.text}")
        return path

    async def open_hops(
        self, hops: str | tuple[Hop, ...], *, trust: Trust | None = None, relay_trust: Trust | None = None
    ) -> Opened:
        """Open a route once; see :meth:`path`. The caller closes it.

        Raises:
            OckamError: a link or channel could not be opened.
        """
        found = parse_hops(hops) if isinstance(hops, str) else hops
        return await open_hops(
            found,
            connect=self.connect,
            secure=lambda route, whom: self.secure_channel(route, trust=whom),
            trust=trust,
            relay_trust=relay_trust or TrustEveryone(),
        )

    # -- workers --------------------------------------------------------------------------------

    def open(self, address: Address | str, *flows: Flow | Link | Listener | SecureChannel | object) -> None:
        """Let what comes by these links, listeners and channels reach a worker.

        Raises:
            ClosedError: the node is closed, or was never started.
            NotFoundError: no worker has the address.
        """
        self._check_running()
        found = Address.local(address) if isinstance(address, str) else address
        self.router.open(found, [flow if isinstance(flow, Flow) else flow.flow for flow in flows])  # type: ignore[attr-defined]

    def context(self, name: str | None = None) -> Context:
        """An address with a mailbox, without a task of its own; a random one if unnamed.

        Raises:
            AlreadyExistsError: the name is taken.
        """
        context, address = self._new_context(name)
        self._contexts[address] = (context, None)
        return context

    def start_worker(
        self,
        name: str | None,
        worker: Worker | Handle,
        *,
        allowed: AccessControl | None = None,
        may_send: Callable[[Route], bool] | None = None,
    ) -> Address:
        """Start a worker, or an async function ``(context, message)`` as one.

        Nothing outside this node reaches it until :meth:`open`.

        Args:
            name: its address; a random one if absent.
            worker: what handles its messages.
            allowed: incoming access control, asked for what comes by links and channels.
            may_send: outgoing access control, asked for the route of whatever its context sends.

        Raises:
            AlreadyExistsError: the name is taken.
        """
        made = as_worker(worker)
        context, address = self._new_context(name, allowed, may_send)
        _ = self._run(run(made, context), context, f"worker {address.name}")
        return address

    def start_processor(
        self, process: Callable[[Context], Coroutine[object, object, None]], *, name: str | None = None
    ) -> asyncio.Task[None]:
        """Run an async function with a context of its own until it returns or the node stops."""
        context, address = self._new_context(name)
        return self._run(process(context), context, f"processor {address.name}")

    def _run(
        self, coroutine: Coroutine[object, object, None], context: Context, name: str
    ) -> asyncio.Task[None]:
        task = self._start(coroutine, name)
        self._contexts[context.address] = (context, task)
        # Whose task has ended takes no more messages, or its senders would wait for ever.
        task.add_done_callback(lambda _: self._forget_context(context))
        return task

    def _new_context(
        self,
        name: str | None,
        allowed: AccessControl | None = None,
        may_send: Callable[[Route], bool] | None = None,
    ) -> tuple[Context, Address]:
        self._check_running()
        address = Address.local(name) if name is not None else self.router.add_random(lambda _: None)
        context = Context(self.router, self.limits, address, may_send)
        if name is None:
            self.router.remove(address)
        self.router.add(address, context.mailbox.put, allowed=allowed)
        return context, address

    async def stop_worker(self, address: Address | str) -> None:
        """Stop a worker or forget a context; an unknown one is no error."""
        found = Address.local(address) if isinstance(address, str) else address
        known = self._contexts.get(found)
        if known is None:
            return
        context, task = known
        self._forget_context(context)
        if task is not None:
            task.cancel()
            await asyncio.wait([task])

    def _forget_context(self, context: Context) -> None:
        known = self._contexts.get(context.address)
        if known is not None and known[0] is context:
            del self._contexts[context.address]
            self.router.remove(context.address)
        context.mailbox.close()

    async def ask(self, route: Route | str, body: object, *, timeout_s: float = 10.0) -> Received:
        """Send ``body`` along ``route`` and wait for the answer.

        Raises:
            AnswerTimeoutError: no answer in time.
            ClosedError: the node is closed, or was never started.
            LinkClosedError: the link or channel ended before the answer came.
            NotFoundError: the first hop does not exist.
        """
        self._check_running()
        return await ask(self.router, self.limits, Route.of(route), encode_body(body), timeout_s)

    # -- services -------------------------------------------------------------------------------

    def uppercase(self, name: str = "uppercase") -> Address:
        """Start the service that answers a string with itself in capitals.

        Raises:
            AlreadyExistsError: the name is taken.
        """
        self._check_running()
        address = Address.local(name)
        self.router.add(address, uppercase(self.router))
        self._services.append(address)
        return address

    def outlet(
        self, target: str | Endpoint, *, name: str = "outlet", allowed: AccessControl | None = None
    ) -> Outlet:
        """Offer the service at ``tcp:host:port`` to whoever the address ``name`` is opened to.

        Raises:
            UsageError: the target is malformed.
            AlreadyExistsError: the name is taken.
        """
        self._check_running()
        where = _tcp(target)
        outlet = Outlet(self._surroundings, Address.local(name), where, allowed)
        self._portals.append(outlet)
        return outlet

    async def inlet(self, bind: str | Endpoint, way: Way | Route) -> Inlet:
        """Listen at ``tcp:host:port`` and continue each connection at the outlet at the end of ``way``.

        Raises:
            UnavailableError: the port cannot be bound.
            UsageError: the endpoint is malformed.
        """
        self._check_running()
        where = _tcp(bind, listening=True)
        found = FixedWay(way) if isinstance(way, Route) else way
        inlet = Inlet(self._surroundings, found)
        await inlet.listen(where, holder_of_port)
        self._portals.append(inlet)
        return inlet

    def relay_service(
        self, *, may_register: Callable[[object], bool] | None = None, open_to: Collection[Flow] = ()
    ) -> RelayService:
        """Let others register here and be reached through this node.

        Raises:
            ClosedError: the node is closed, or was never started.
        """
        self._check_running()
        service = RelayService(self.router, self.limits, self._emit, may_register=may_register)
        service.open_to(*open_to)
        self._relays.append(service)
        return service

    def register(
        self, path: Path, *, name: str | None = None, offer: Collection[Address | str] = ()
    ) -> RemoteRelay:
        """Register at the relay at the end of ``path`` and stay registered.

        Args:
            path: the way to the relay node.
            name: the name to register; the relay makes one up if absent.
            offer: what may be reached through the relay, besides ``echo``.
        """
        offered = [Address.local(known) if isinstance(known, str) else known for known in offer]

        def opened(found: Opened) -> None:
            flow = self.router.flow_of(found.route[0]) if found.route else None
            if flow is None:
                return  # it has ended already, and is opened again
            for address in offered:
                if address in self.router:
                    self.open(address, flow)
                else:
                    logger.warning("%s is not there, and cannot be offered at %s", address.name, path.text)

        path.on_open(opened)
        relay = RemoteRelay(self.router, self.limits, self._emit, path, name)
        self.spawn(relay.run(), f"relay registration at {path.text}")
        return relay


def _tcp(endpoint: str | Endpoint, *, listening: bool = False) -> HostPort:
    where = Endpoint.parse(endpoint) if isinstance(endpoint, str) else endpoint
    if where.kind != "tcp":
        raise UsageError(f"{where}: portals carry tcp: endpoints so far")
    return HostPort.parse(where.details, allow_any_host=listening)
