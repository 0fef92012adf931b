"""Exit codes: which error ends the command with which, in one table (after sysexits.h)."""

from __future__ import annotations

import errno
from typing import Final

from ockamlite.errors import (
    AlreadyExistsError,
    AnswerTimeoutError,
    ClockError,
    ClosedError,
    DamagedStateError,
    LinkError,
    LocalError,
    OckamError,
    PermissionsError,
    RemoteError,
    StateError,
    TrustError,
)

OK: Final = 0
USAGE: Final = 64
BAD_DATA: Final = 65
UNAVAILABLE: Final = 69
DEFECT: Final = 70
CANNOT_CREATE: Final = 73
IO: Final = 74
TEMPORARY: Final = 75
PROTOCOL: Final = 76
REFUSED: Final = 77
CONFIGURATION: Final = 78

CODES: Final[tuple[tuple[type[OckamError], int], ...]] = (
    (ClosedError, DEFECT),
    (AlreadyExistsError, CANNOT_CREATE),
    (LocalError, USAGE),
    (TrustError, REFUSED),
    (RemoteError, PROTOCOL),
    (AnswerTimeoutError, TEMPORARY),
    (LinkError, UNAVAILABLE),
    (DamagedStateError, BAD_DATA),
    (PermissionsError, REFUSED),
    (ClockError, CONFIGURATION),
    (StateError, IO),
    (OckamError, DEFECT),
)
"""The first class that fits decides."""


def exit_code(error: OckamError) -> int:
    """The code for an error of ours."""
    return next(code for kind, code in CODES if isinstance(error, kind))


def system_exit_code(error: OSError) -> int:
    """The code for an error of the system that nobody has translated."""
    return REFUSED if error.errno in (errno.EACCES, errno.EPERM) else IO
