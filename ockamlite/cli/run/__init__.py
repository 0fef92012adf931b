"""What the commands do once they run; nothing in here is imported for a help text."""

from __future__ import annotations

import sys

if "asyncio" not in sys.modules:
    # asyncio is whole without ssl, which no link of ours uses and which costs each process four
    # megabytes and ten milliseconds. Whoever needs ssl later imports it as ever.
    sys.modules["ssl"] = None  # type: ignore[assignment]
    try:
        import asyncio  # noqa: F401  (imported for its side effect: it has looked for ssl)
    finally:
        del sys.modules["ssl"]
