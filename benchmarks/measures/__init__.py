"""The measures: one module each, all with the same three questions."""

from __future__ import annotations

from benchmarks.measures.bulk import Bulk
from benchmarks.measures.connections import Connections
from benchmarks.measures.hops import Hops
from benchmarks.measures.latency import Latency
from benchmarks.measures.memory import Memory
from benchmarks.measures.relays import Relays
from benchmarks.measures.scaling import Scaling
from benchmarks.measures.startup import Startup

MEASURES = (Bulk(), Latency(), Connections(), Memory(), Startup(), Relays(), Hops(), Scaling())
