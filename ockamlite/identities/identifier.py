"""The name of an identity, which is the hash of its first change."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from ockamlite.errors import UsageError

_TEXT: Final = re.compile(r"I([0-9a-fA-F]{64})", re.ASCII)


@dataclass(frozen=True, slots=True, repr=False)
class Identifier:
    """Names an identity for as long as it lives, whatever its keys.

    Raises:
        UsageError: ``digest`` is not 32 bytes.
    """

    digest: bytes

    def __post_init__(self) -> None:
        if type(self.digest) is not bytes or len(self.digest) != 32:
            raise UsageError("an identifier has 32 bytes")

    @classmethod
    def parse(cls, text: str) -> Identifier:
        """Read ``I`` and 64 hex digits; white space around them is ignored.

        Raises:
            UsageError: anything else.
        """
        found = _TEXT.fullmatch(text.strip())
        if found is None:
            raise UsageError(
                f"{text.strip()[:80]!r} is not an identifier", hint="an identifier is I and 64 hex digits"
            )
        return cls(bytes.fromhex(found[1]))

    def __str__(self) -> str:
        """``I`` and 64 lower-case hex digits."""
        return "I" + self.digest.hex()

    def __repr__(self) -> str:
        """As in code."""
        return f"Identifier.parse({str(self)!r})"
