"""Who we are: the identity that the options name, and where it is kept."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ockamlite.identities.local import DEFAULT_NAME, LocalIdentity
from ockamlite.identities.store import MemoryStore, SqliteStore, Store, default_home

if TYPE_CHECKING:
    from ockamlite.cli.options import Common


@dataclass(frozen=True, slots=True)
class State:
    """Our identity and its store."""

    identity: LocalIdentity
    store: Store


def open_store() -> Store:
    """The store on disk.

    Raises:
        StateError: it cannot be used.
    """
    return SqliteStore(default_home(os.environ))


def open_state(common: Common) -> State:
    """The identity that ``--identity`` or ``--ephemeral`` asks for; ``default`` is made on first use.

    Raises:
        NotFoundError: there is no identity of that name.
        StateError: the state cannot be used.
    """
    if common.ephemeral:
        return State(LocalIdentity.ephemeral(int(time.time())), MemoryStore())
    store = open_store()
    return State(load(store, common.identity), store)


def load(store: Store, name: str) -> LocalIdentity:
    """Our identity of that name.

    Raises:
        NotFoundError: there is none, and it is not ``default``.
    """
    if name == DEFAULT_NAME:
        return LocalIdentity.load_or_create(store, name, now=int(time.time()))
    return LocalIdentity.load(store, name)
