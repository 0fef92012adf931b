"""Nodes to run workers on: one alone, and two joined by a TCP link on loopback."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, NamedTuple

import pytest

from ockamlite.limits import LIMITS
from ockamlite.node import Node

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from ockamlite.links import Link, Listener


class Joined(NamedTuple):
    """Two nodes and what joins them."""

    here: Node
    there: Node
    link: Link
    """At ``here``."""
    listener: Listener
    """At ``there``."""


@pytest.fixture
async def node() -> AsyncIterator[Node]:
    async with Node() as alone:
        yield alone


@pytest.fixture
async def joined() -> AsyncIterator[Joined]:
    """Mailboxes take eight messages."""
    limits = dataclasses.replace(LIMITS, mailbox_messages=8)
    async with Node(limits=limits) as there, Node(limits=limits) as here:
        listener = await there.listen("tcp:127.0.0.1:0")
        yield Joined(here, there, await here.connect(listener.endpoint), listener)
