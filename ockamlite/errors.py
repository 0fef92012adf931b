"""Every error a caller of ockamlite can meet, in one tree.

The first level answers "whose fault is it?":

    OckamError
    ├── LocalError            our caller's mistake: a bad argument, a missing worker, a closed node
    │   ├── UsageError            an option, endpoint, route or text that cannot be understood
    │   ├── NotFoundError         no worker, identity or transport of that name
    │   ├── AlreadyExistsError    an address, name or file that is taken
    │   ├── NotAllowedError       what our own access control forbids
    │   └── ClosedError           the object was closed before
    ├── RemoteError           the peer broke the rules of the wire, or is not who we trust
    │   ├── DecodeError           bytes that are not what the format says
    │   ├── ProtocolError         well-formed, but not allowed here and now
    │   ├── VerificationError     a signature, hash, time or key that does not hold
    │   └── TrustError            a verified peer that our policy refuses
    ├── LinkError             the world: a link refused, lost, busy or timed out
    │   ├── UnavailableError      cannot bind, connect or resolve
    │   ├── LinkClosedError       ended by the other side
    │   ├── LinkBrokenError       broken under way
    │   └── AnswerTimeoutError    no answer in time
    └── StateError            what is kept on disk
        ├── DamagedStateError     a database or file that cannot be read
        ├── PermissionsError      permissions too wide or too narrow
        ├── ClockError            a clock that cannot be right
        └── StorageError          disk full, read-only, I/O error

A peer can never cause a ``LocalError``. Anything outside this tree is a defect of ockamlite.
"""

from __future__ import annotations


class OckamError(Exception):
    """Base of all errors of ockamlite.

    Attributes:
        hint: what the reader can do about it, or an empty string. The command line and tracebacks
            print it behind ``try:``.
    """

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint
        if hint:
            self.add_note(f"try: {hint}")  # where nobody prints the hint, a traceback does


class LocalError(OckamError):
    """Our caller's mistake."""


class UsageError(LocalError):
    """An option, endpoint, route or text that cannot be understood."""


class NotFoundError(LocalError):
    """No worker, identity or transport of that name."""


class AlreadyExistsError(LocalError):
    """An address, name or file that is taken."""


class NotAllowedError(LocalError):
    """What our own access control forbids."""


class ClosedError(LocalError):
    """The object was closed before."""


class RemoteError(OckamError):
    """The peer broke the rules, or is not who we trust."""


class DecodeError(RemoteError):
    """Bytes that are not what the format says."""


class ProtocolError(RemoteError):
    """A well-formed message that is not allowed here and now."""


class VerificationError(RemoteError):
    """A signature, hash, time or key that does not hold."""


class TrustError(RemoteError):
    """A verified peer that our policy refuses."""


class LinkError(OckamError):
    """A link refused, lost, busy or timed out."""


class UnavailableError(LinkError):
    """Cannot bind, connect or resolve."""


class LinkClosedError(LinkError):
    """The link was ended by the other side."""


class LinkBrokenError(LinkError):
    """The link broke under way."""


class AnswerTimeoutError(LinkError):
    """No answer in time."""


class StateError(OckamError):
    """What is kept on disk."""


class DamagedStateError(StateError):
    """A database or file that cannot be read."""


class PermissionsError(StateError):
    """Permissions that are too wide or too narrow."""


class ClockError(StateError):
    """A clock that cannot be right."""


class StorageError(StateError):
    """Disk full, read-only file system, I/O error."""
