"""Runs in networks of emulated links."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from boards.network import Network

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine


@pytest.fixture
def played() -> Callable[..., Network]:
    """Runs a body in a network of its own, in virtual time; the network, with its trace."""

    def play(body: Callable[[Network], Coroutine[Any, Any, Any]], seed: int = 1, **options: Any) -> Network:
        network = Network(seed=seed)
        network.run(body(network), **options)
        return network

    return play
