"""BARE as Ockam's workers write it: little-endian, no type information (draft-devault-bare).

The plain functions serve the protocols: varints, strings, byte strings. :func:`encode` and :func:`decode`
serve messages of users, driven by type hints:

    bool, str, bytes              as they are; float is an f64, ``F32`` a short one
    U8 … U64, I8 … I64, UInt      whole numbers; plain ``int`` is refused, for the width is on the wire
    list[T], tuple[T, ...]        a count and the items; dict[K, V] likewise, without repeated keys
    tuple[A, B], dataclasses      their fields, back to back
    Enum                          the number of the member in the order of declaration
    T | None                      a presence byte, then the value; None alone is nothing at all

Decoding accepts what Rust accepts inside a message (varints that are not the shortest, any non-zero byte
for true) and refuses bytes behind it unless told otherwise.
"""

from __future__ import annotations

import dataclasses
import enum
import functools
import struct
import types
from dataclasses import dataclass
from typing import (
    Annotated,
    Any,
    Final,
    Protocol,
    TypeAlias,
    TypeVar,
    Union,
    get_args,
    get_origin,
    get_type_hints,
    overload,
)

from ockamlite.errors import DecodeError, LocalError, UsageError
from ockamlite.limits import LIMITS

T = TypeVar("T")

_UINT_MAX: Final = 2**64 - 1


def encode_uint(number: int) -> bytes:
    """The varint of 0 to 2^64-1: seven bits a byte, lowest first, the high bit says that more follow.

    Raises:
        UsageError: the number does not fit.
    """
    if type(number) is not int:
        raise _mismatch(number, "uint")
    if not 0 <= number <= _UINT_MAX:
        raise UsageError(f"{number} does not fit into uint, 0 to 2^64-1")
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def decode_uint(data: bytes | memoryview, at: int) -> tuple[int, int]:
    """Read the varint at ``at``; return it and the position behind it. Longer forms than needed are fine.

    Raises:
        DecodeError: it ends early, or does not fit into 64 bits.
    """
    number = shift = 0
    while True:
        if at >= len(data):
            raise DecodeError("BARE varint ends early")
        byte = data[at]
        at += 1
        if shift == 63 and byte != 1:
            raise DecodeError("BARE varint is longer than 64 bits")
        number |= (byte & 0x7F) << shift
        if byte < 0x80:
            return number, at
        shift += 7


def encode_bytes(data: bytes) -> bytes:
    """A byte string: its length as a varint, then the bytes."""
    return encode_uint(len(data)) + data


def decode_bytes(data: bytes | memoryview, *, trailing: bool = False) -> bytes:
    """Read one byte string.

    Args:
        data: the encoding.
        trailing: accept and ignore bytes behind it.

    Raises:
        DecodeError: it ends early, or more follows.
    """
    body, end = _bytes_at(data, 0)
    _check_end(data, end, trailing=trailing)
    return body


def encode_str(text: str) -> bytes:
    """A string: the length of its UTF-8 as a varint, then the UTF-8.

    Raises:
        UsageError: the text has no UTF-8 (a lone surrogate).
    """
    try:
        return encode_bytes(text.encode())
    except UnicodeEncodeError as error:
        raise UsageError("a text with a lone surrogate cannot be written as UTF-8") from error


def decode_str(data: bytes | memoryview, *, trailing: bool = False) -> str:
    """Read one string.

    Args:
        data: the encoding.
        trailing: accept and ignore bytes behind it.

    Raises:
        DecodeError: it ends early, is not UTF-8, or more follows.
    """
    text, end = _str_at(data, 0)
    _check_end(data, end, trailing=trailing)
    return text


def encode(value: object, kind: object) -> bytes:
    """Encode a value as the kind says; see the table above.

    Raises:
        UsageError: the kind is none of the table, or the value is not of that kind.
    """
    out = bytearray()
    _codec(kind).put(value, out)
    return bytes(out)


@overload
def decode(data: bytes | memoryview, kind: type[T], *, trailing: bool = False) -> T: ...


@overload
def decode(data: bytes | memoryview, kind: object, *, trailing: bool = False) -> Any: ...


def decode(data: bytes | memoryview, kind: object, *, trailing: bool = False) -> Any:
    """Decode one value of a kind; see the table above.

    Args:
        data: the encoding.
        kind: a type hint.
        trailing: accept and ignore bytes behind the value, as Rust does.

    Raises:
        DecodeError: the bytes are not of that kind.
        UsageError: the kind is none of the table.
    """
    codec = _codec(kind)
    data = bytes(data)
    value, end = codec.take(data, 0)
    _check_end(data, end, trailing=trailing)
    return value


def _bytes_at(data: bytes | memoryview, at: int) -> tuple[bytes, int]:
    length, at = decode_uint(data, at)
    if length > len(data) - at:
        raise DecodeError(f"BARE string of {length} bytes ends early")
    return bytes(data[at : at + length]), at + length


def _str_at(data: bytes | memoryview, at: int) -> tuple[str, int]:
    body, end = _bytes_at(data, at)
    try:
        return body.decode(), end
    except UnicodeDecodeError as error:
        raise DecodeError("BARE string is not UTF-8") from error


def _check_end(data: bytes | memoryview, end: int, *, trailing: bool) -> None:
    if end != len(data) and not trailing:
        raise DecodeError(f"{len(data) - end} bytes behind the BARE value")


def _mismatch(value: object, wanted: str) -> UsageError:
    """Names the type alone: the value may be somebody's secret."""
    return UsageError(f"a value of type {type(value).__name__} where BARE wants {wanted}")


class _Codec(Protocol):
    """How values of one kind are written and read."""

    @property
    def least(self) -> int:
        """Bytes of the shortest value."""

    def put(self, value: Any, out: bytearray) -> None: ...

    def take(self, data: bytes, at: int) -> tuple[Any, int]: ...


@dataclass(frozen=True, slots=True)
class _Fixed:
    """Numbers of a fixed width, by their ``struct`` format."""

    name: str
    format: str

    @property
    def least(self) -> int:
        return struct.calcsize(self.format)

    def put(self, value: Any, out: bytearray) -> None:
        # struct would take a bool for a number, and a number with __index__ for an int.
        if type(value) is not int and not (type(value) is float and self.name.startswith("f")):
            raise _mismatch(value, self.name)
        try:
            out += struct.pack(self.format, value)
        except (struct.error, OverflowError) as error:
            raise UsageError(f"{value} does not fit into {self.name}") from error

    def take(self, data: bytes, at: int) -> tuple[Any, int]:
        end = at + self.least
        if end > len(data):
            raise DecodeError(f"BARE {self.name} ends early")
        return struct.unpack_from(self.format, data, at)[0], end


class _UInt:
    least = 1

    def put(self, value: Any, out: bytearray) -> None:
        out += encode_uint(value)

    def take(self, data: bytes, at: int) -> tuple[int, int]:
        return decode_uint(data, at)


class _Bool:
    least = 1

    def put(self, value: Any, out: bytearray) -> None:
        if type(value) is not bool:
            raise _mismatch(value, "bool")
        out.append(value)

    def take(self, data: bytes, at: int) -> tuple[bool, int]:
        if at >= len(data):
            raise DecodeError("BARE bool ends early")
        return data[at] != 0, at + 1


class _Str:
    least = 1

    def put(self, value: Any, out: bytearray) -> None:
        if not isinstance(value, str):
            raise _mismatch(value, "str")
        out += encode_str(value)

    def take(self, data: bytes, at: int) -> tuple[str, int]:
        return _str_at(data, at)


class _Bytes:
    least = 1

    def put(self, value: Any, out: bytearray) -> None:
        if not isinstance(value, bytes):
            raise _mismatch(value, "bytes")
        out += encode_bytes(value)

    def take(self, data: bytes, at: int) -> tuple[bytes, int]:
        return _bytes_at(data, at)


class _Nothing:
    least = 0

    def put(self, value: Any, out: bytearray) -> None:
        if value is not None:
            raise _mismatch(value, "None")

    def take(self, data: bytes, at: int) -> tuple[None, int]:
        return None, at


@dataclass(frozen=True, slots=True)
class _Optional:
    inner: _Codec
    least: int = 1

    def put(self, value: Any, out: bytearray) -> None:
        out.append(value is not None)
        if value is not None:
            self.inner.put(value, out)

    def take(self, data: bytes, at: int) -> tuple[Any, int]:
        if at >= len(data):
            raise DecodeError("BARE option ends early")
        return self.inner.take(data, at + 1) if data[at] else (None, at + 1)


@dataclass(frozen=True, slots=True)
class _Sequence:
    build: type[list[Any]] | type[tuple[Any, ...]]
    inner: _Codec
    least: int = 1

    def put(self, value: Any, out: bytearray) -> None:
        if type(value) is not self.build:
            raise _mismatch(value, self.build.__name__)
        if len(value) > LIMITS.bare_items:
            raise UsageError(f"{len(value)} entries exceed {LIMITS.bare_items}")
        out += encode_uint(len(value))
        for item in value:
            self.inner.put(item, out)

    def take(self, data: bytes, at: int) -> tuple[Any, int]:
        count, at = decode_uint(data, at)
        if count > LIMITS.bare_items or count * self.inner.least > len(data) - at:
            raise DecodeError(f"BARE list of {count} entries is too long")
        items = []
        for _ in range(count):
            item, at = self.inner.take(data, at)
            items.append(item)
        return self.build(items), at


@dataclass(frozen=True, slots=True)
class _Map:
    pairs: _Sequence
    least: int = 1

    def put(self, value: Any, out: bytearray) -> None:
        if type(value) is not dict:
            raise _mismatch(value, "dict")
        self.pairs.put(list(value.items()), out)

    def take(self, data: bytes, at: int) -> tuple[dict[Any, Any], int]:
        pairs, at = self.pairs.take(data, at)
        entries = dict(pairs)
        if len(entries) != len(pairs):
            raise DecodeError("BARE map has a key twice")
        return entries, at


@dataclass(frozen=True, slots=True)
class _Fields:
    """Values back to back: a tuple, or a dataclass if ``record`` is one."""

    items: tuple[_Codec, ...]
    names: tuple[str, ...] = ()
    record: type | None = None

    @property
    def least(self) -> int:
        return sum(item.least for item in self.items)

    def put(self, value: Any, out: bytearray) -> None:
        if self.record is None:
            if type(value) is not tuple or len(value) != len(self.items):
                raise _mismatch(value, f"tuple of {len(self.items)}")
            values = value
        elif type(value) is self.record:
            values = tuple(getattr(value, name) for name in self.names)
        else:
            raise _mismatch(value, self.record.__name__)
        for item, part in zip(self.items, values, strict=True):
            item.put(part, out)

    def take(self, data: bytes, at: int) -> tuple[Any, int]:
        values = []
        for item in self.items:
            value, at = item.take(data, at)
            values.append(value)
        if self.record is None:
            return tuple(values), at
        try:
            return self.record(**dict(zip(self.names, values, strict=True))), at
        except (ValueError, TypeError, LocalError) as error:
            # The class checks its own fields, and the fields are the peer's.
            raise DecodeError(f"BARE value is no valid {self.record.__name__}: {error}") from error


@dataclass(frozen=True, slots=True)
class _Member:
    members: tuple[enum.Enum, ...]
    least: int = 1

    def put(self, value: Any, out: bytearray) -> None:
        if type(value) is not type(self.members[0]):
            raise _mismatch(value, type(self.members[0]).__name__)
        out += encode_uint(self.members.index(value))

    def take(self, data: bytes, at: int) -> tuple[enum.Enum, int]:
        number, at = decode_uint(data, at)
        if number >= len(self.members):
            raise DecodeError(f"BARE variant {number} is unknown")
        return self.members[number], at


U8: TypeAlias = Annotated[int, _Fixed("u8", "<B")]
U16: TypeAlias = Annotated[int, _Fixed("u16", "<H")]
U32: TypeAlias = Annotated[int, _Fixed("u32", "<I")]
U64: TypeAlias = Annotated[int, _Fixed("u64", "<Q")]
I8: TypeAlias = Annotated[int, _Fixed("i8", "<b")]
I16: TypeAlias = Annotated[int, _Fixed("i16", "<h")]
I32: TypeAlias = Annotated[int, _Fixed("i32", "<i")]
I64: TypeAlias = Annotated[int, _Fixed("i64", "<q")]
F32: TypeAlias = Annotated[float, _Fixed("f32", "<f")]
UInt: TypeAlias = Annotated[int, _UInt()]

_PLAIN: Final[dict[object, _Codec]] = {
    bool: _Bool(),
    str: _Str(),
    bytes: _Bytes(),
    float: _Fixed("f64", "<d"),
    None: _Nothing(),
    type(None): _Nothing(),
}


def _codec(kind: object) -> _Codec:
    try:
        return _compiled(kind)
    except TypeError as error:  # the kind cannot be hashed, so it is no type hint
        raise UsageError(f"{kind!r} is no kind of BARE value") from error


@functools.lru_cache(maxsize=256)
def _compiled(kind: object) -> _Codec:
    return _compile(kind, ())


def _compile(kind: object, within: tuple[object, ...]) -> _Codec:
    """Build the codec of a kind; ``within`` are the dataclasses it stands in."""
    if kind in _PLAIN:
        return _PLAIN[kind]
    arguments = get_args(kind)
    match get_origin(kind):
        case origin if origin is Annotated:
            for note in arguments[1:]:
                if isinstance(note, (_Fixed, _UInt)):
                    return note
            return _compile(arguments[0], within)
        case origin if origin in (Union, types.UnionType):
            if len(arguments) == 2 and type(None) in arguments:
                inner = arguments[0] if arguments[1] is type(None) else arguments[1]
                return _Optional(_compile(inner, within))
        case origin if origin is list:
            return _sequence(list, _compile(arguments[0], within))
        case origin if origin is tuple:
            if len(arguments) == 2 and arguments[1] is Ellipsis:
                return _sequence(tuple, _compile(arguments[0], within))
            return _Fields(tuple(_compile(argument, within) for argument in arguments))
        case origin if origin is dict:
            key, value = (_compile(argument, within) for argument in arguments)
            if not isinstance(key, (_UInt, _Str, _Bytes, _Bool, _Member)) and not (
                isinstance(key, _Fixed) and not key.name.startswith("f")
            ):
                raise UsageError(f"{arguments[0]!r} cannot be a key of a BARE map")
            return _Map(_sequence(list, _Fields((key, value))))
        case None if isinstance(kind, type):
            if dataclasses.is_dataclass(kind):
                return _record(kind, within)
            if issubclass(kind, enum.Enum) and len(kind):
                return _Member(tuple(kind))
        case _:
            pass
    if kind is int:
        raise UsageError("an int needs a width in BARE: U8 to U64, I8 to I64 or UInt")
    raise UsageError(f"{kind!r} is no kind of BARE value")


def _sequence(build: type[list[Any]] | type[tuple[Any, ...]], inner: _Codec) -> _Sequence:
    if not inner.least:
        raise UsageError("a BARE list of values without bytes has no bound")
    return _Sequence(build, inner)


def _record(record: type, within: tuple[object, ...]) -> _Codec:
    if record in within:
        raise UsageError(f"{record.__name__} holds itself, which BARE cannot write")
    try:
        hints = get_type_hints(record, include_extras=True)
    except (NameError, TypeError) as error:
        raise UsageError(f"the type hints of {record.__name__} cannot be read: {error}") from error
    fields = dataclasses.fields(record)
    if not all(field.init for field in fields):
        raise UsageError(f"{record.__name__} has a field that its constructor does not take")
    names = tuple(field.name for field in fields)
    return _Fields(tuple(_compile(hints[name], (*within, record)) for name in names), names, record)
