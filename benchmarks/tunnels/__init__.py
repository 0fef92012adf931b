"""The tunnels that are compared: one module each, all with the same two steps."""

from __future__ import annotations

from typing import TYPE_CHECKING

from benchmarks.tunnels.direct import Direct
from benchmarks.tunnels.ockamlite import Ockamlite
from benchmarks.tunnels.rust import RustPortal
from benchmarks.tunnels.ssh import Ssh

if TYPE_CHECKING:
    from collections.abc import Sequence

    from benchmarks.tunnels.tunnel import Tunnel


def all_tunnels(*, ockamlite: Sequence[str], ockam_peer: str) -> list[Tunnel]:
    """Every tunnel, in the order they are measured within a round."""
    return [Direct(), Ssh(), RustPortal(ockam_peer), Ockamlite(ockamlite)]
