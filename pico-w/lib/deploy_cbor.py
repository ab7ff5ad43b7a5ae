"""CBOR as Deploybus writes it: integers, bytes, text, lists, maps, true, false and null; definite lengths.

Whatever else comes is refused with a ValueError, before it takes memory: nothing announces more than there is.
"""

DEPTH = 12  # deeper than any document


def _head(data, at):
    kind, low = data[at] >> 5, data[at] & 31
    if low < 24:
        return kind, low, at + 1
    if low > 27:
        raise ValueError("no CBOR of ours")
    size = 1 << low - 24
    if at + 1 + size > len(data):
        raise ValueError("cut short")
    return kind, int.from_bytes(data[at + 1 : at + 1 + size], "big"), at + 1 + size


def _value(data, at, depth, keep):
    if at >= len(data) or depth > DEPTH:
        raise ValueError("cut short, or too deep")
    kind, n, end = _head(data, at)
    if kind == 0:
        return n, end
    if kind == 1:
        return -1 - n, end
    if kind == 7 and data[at] in (0xF4, 0xF5, 0xF6):
        return (False, True, None)[data[at] - 0xF4], end
    if kind > 5 or n > len(data) - end:
        raise ValueError("no CBOR of ours, or cut short")
    if kind == 2:
        return keep(data[end : end + n]), end + n
    if kind == 3:
        try:
            return str(data[end : end + n], "utf-8"), end + n
        except UnicodeError:
            raise ValueError("no text")
    found = [] if kind == 4 else {}
    for _ in range(n):
        value, end = _value(data, end, depth + 1, keep)
        if kind == 4:
            found.append(value)
            continue
        if value in found if isinstance(value, (str, int)) else True:
            raise ValueError("a key twice, or none")
        found[value], end = _value(data, end, depth + 1, keep)
    return found, end


def decode(data, keep=bytes):
    """The one value that `data` is. `keep` makes byte strings of what is found: `memoryview` leaves them where they are."""
    value, end = _value(data, 0, 0, keep)
    if end != len(data):
        raise ValueError("more behind the end")
    return value


def _with_head(kind, n):
    if n < 24:
        return bytes([kind << 5 | n])
    low = 24 if n < 0x100 else 25 if n < 0x10000 else 26 if n < 0x100000000 else 27
    return bytes([kind << 5 | low]) + n.to_bytes(1 << low - 24, "big")


def encode(value):
    if value is None or value is True or value is False:
        return b"\xf6" if value is None else b"\xf5" if value else b"\xf4"
    if isinstance(value, int):
        return _with_head(0, value) if value >= 0 else _with_head(1, -1 - value)
    if isinstance(value, bytes):
        return _with_head(2, len(value)) + value
    if isinstance(value, str):
        data = value.encode()
        return _with_head(3, len(data)) + data
    if isinstance(value, dict):
        return _with_head(5, len(value)) + b"".join(encode(k) + encode(v) for k, v in value.items())
    return _with_head(4, len(value)) + b"".join(encode(item) for item in value)
