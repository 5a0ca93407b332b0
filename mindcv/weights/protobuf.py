"""The wire format of protocol buffers (protobuf.dev/programming-guides/encoding)."""

from collections.abc import Iterator

NUMBER, BYTES = 0, 2  # wire types of integers and of length-delimited fields
_FIXED = {1: 8, 5: 4}  # wire types of numbers of so many bytes


def fields(message: memoryview) -> Iterator[tuple[int, int, int | memoryview, memoryview]]:
    """Yield number, wire type, value and whole encoding of each field.

    Raises:
        ValueError: it is no such message.
    """
    at = 0
    while at < len(message):
        start = at
        key, at = _varint(message, at)
        number, kind = key >> 3, key & 7
        if kind in (NUMBER, BYTES):
            value, at = _varint(message, at)
        elif kind not in _FIXED:
            raise ValueError(f"a field of kind {kind}")
        if kind != NUMBER:
            end = at + (value if kind == BYTES else _FIXED[kind])
            if end > len(message):
                raise ValueError("it is cut off")
            value, at = message[at:end], end
        yield number, kind, value, message[start:at]


def varints(message: memoryview) -> Iterator[int]:
    """Yield integers that follow each other without keys."""
    at = 0
    while at < len(message):
        value, at = _varint(message, at)
        yield value


def _varint(message: memoryview, at: int) -> tuple[int, int]:
    """Decode an integer (seven bits a byte, lowest first); return it and the next position."""
    value = 0
    for shift in range(0, 64, 7):
        if at == len(message):
            raise ValueError("it is cut off")
        byte = message[at]
        value, at = value | (byte & 0x7F) << shift, at + 1
        if byte < 0x80:
            return value, at
    raise ValueError("a number of more than 64 bits")


def field(number: int, content: bytes) -> bytes:
    """Return a length-delimited field."""
    return head(number, len(content)) + content


def head(number: int, size: int) -> bytes:
    """Return the bytes before the content of a length-delimited field."""
    return bytes([number << 3 | BYTES]) + encode(size)


def encode(value: int) -> bytes:
    """Encode seven bits a byte, lowest first; all bytes but the last have the top bit set."""
    groups = []
    while value > 0x7F:
        groups.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*groups, value])
