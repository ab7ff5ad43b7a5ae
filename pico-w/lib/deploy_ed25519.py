"""Ed25519 (RFC 8032) and SHA-512 for MicroPython, which has neither.

All that takes long is a generator that yields every few milliseconds, so that the app goes on meanwhile. Time depends on
what is computed: nobody can measure it to a bit over the network, and who can touch the Pico reads the key anyway.
"""

from binascii import unhexlify

P = (1 << 255) - 19
L = (1 << 252) + 27742317777372353535851937790883648493
D = 0x52036CEE2B6FFE738CC740797779E89800700A4D4141D8AB75EB4DCA135978A3
_D2 = 2 * D % P
_I = pow(2, (P - 1) // 4, P)
_IDENTITY = (0, 1, 1, 0)
_BX = 0x216936D3CD6E53FEC0A4E231FDD6DC5C692CC7609525A7B2C9562D608F25D51A
_BY = 4 * pow(5, P - 2, P) % P
_BASE = (_BX, _BY, 1, _BX * _BY % P)
# The points that sign anything have one of these as y.
_Y8 = 0x5FC536D880238B13933C6D305ACDFD5F098EFF289F4C345B027B2C28F95E826
_WEAK = (0, 1, P - 1, _Y8, P - _Y8)
_M = (1 << 64) - 1
_K = unhexlify(
    "428a2f98d728ae227137449123ef65cdb5c0fbcfec4d3b2fe9b5dba58189dbbc3956c25bf348b53859f111f1b605d019"
    "923f82a4af194f9bab1c5ed5da6d8118d807aa98a303024212835b0145706fbe243185be4ee4b28c550c7dc3d5ffb4e2"
    "72be5d74f27b896f80deb1fe3b1696b19bdc06a725c71235c19bf174cf692694e49b69c19ef14ad2efbe4786384f25e3"
    "0fc19dc68b8cd5b5240ca1cc77ac9c652de92c6f592b02754a7484aa6ea6e4835cb0a9dcbd41fbd476f988da831153b5"
    "983e5152ee66dfaba831c66d2db43210b00327c898fb213fbf597fc7beef0ee4c6e00bf33da88fc2d5a79147930aa725"
    "06ca6351e003826f142929670a0e6e7027b70a8546d22ffc2e1b21385c26c9264d2c6dfc5ac42aed53380d139d95b3df"
    "650a73548baf63de766a0abb3c77b2a881c2c92e47edaee692722c851482353ba2bfe8a14cf10364a81a664bbc423001"
    "c24b8b70d0f89791c76c51a30654be30d192e819d6ef5218d69906245565a910f40e35855771202a106aa07032bbd1b8"
    "19a4c116b8d2d0c81e376c085141ab532748774cdf8eeb9934b0bcb5e19b48a8391c0cb3c5c95a634ed8aa4ae3418acb"
    "5b9cca4f7763e373682e6ff3d6b2b8a3748f82ee5defb2fc78a5636f43172f6084c87814a1f0ab728cc702081a6439ec"
    "90befffa23631e28a4506cebde82bde9bef9a3f7b2c67915c67178f2e372532bca273eceea26619cd186b8c721c0c207"
    "eada7dd6cde0eb1ef57d4f7fee6ed17806f067aa72176fba0a637dc5a2c898a6113f9804bef90dae1b710b35131c471b"
    "28db77f523047d8432caab7b40c724933c9ebe0a15c9bebc431d67c49c100d4c4cc5d4becb3e42b6597f299cfc657e2a"
    "5fcb6fab3ad6faec6c44198c4a475817"
)
_H = unhexlify(
    "6a09e667f3bcc908bb67ae8584caa73b3c6ef372fe94f82ba54ff53a5f1d36f1"
    "510e527fade682d19b05688c2b3e6c1f1f83d9abfb41bd6b5be0cd19137e2179"
)
_comb = None


def _words(data, at=0, count=16):
    return [int.from_bytes(data[i : i + 8], "big") for i in range(at, at + 8 * count, 8)]


def sha512(data):
    m = _M
    keys, state = _words(_K, 0, 80), _words(_H, 0, 8)
    size = len(data)
    data = data + b"\x80" + bytes((111 - size) % 128) + (size * 8).to_bytes(16, "big")
    for at in range(0, len(data), 128):
        w = _words(data, at)
        a, b, c, d, e, f, g, h = state
        for t in range(80):
            if t >= 16:
                x = w[(t - 15) & 15]
                y = w[(t - 2) & 15]
                x |= x << 64
                y |= y << 64
                w[t & 15] = (
                    w[t & 15]
                    + w[(t - 7) & 15]
                    + (((x >> 1) ^ (x >> 8) ^ ((x & m) >> 7)) & m)
                    + (((y >> 19) ^ (y >> 61) ^ ((y & m) >> 6)) & m)
                ) & m
            x = e | e << 64
            t1 = h + (((x >> 14) ^ (x >> 18) ^ (x >> 41)) & m) + (g ^ (e & (f ^ g))) + keys[t] + w[t & 15]
            x = a | a << 64
            t2 = (((x >> 28) ^ (x >> 34) ^ (x >> 39)) & m) + ((a & b) ^ (c & (a ^ b)))
            h, g, f, e, d, c, b, a = g, f, e, (d + t1) & m, c, b, a, (t1 + t2) & m
        state = [(x + y) & m for x, y in zip(state, (a, b, c, d, e, f, g, h))]
        yield
    return b"".join(x.to_bytes(8, "big") for x in state)


def _number(data):
    return int.from_bytes(data, "little")


def _add(p, q):
    x1, y1, z1, t1 = p
    x2, y2, z2, t2 = q
    a = (y1 - x1) * (y2 - x2) % P
    b = (y1 + x1) * (y2 + x2) % P
    c = t1 * t2 % P * _D2 % P
    d = 2 * z1 * z2 % P
    e, f, g, h = b - a, d - c, d + c, b + a
    return (e * f % P, g * h % P, f * g % P, e * h % P)


def _double(p):
    x, y, z, _ = p
    a = x * x % P
    b = y * y % P
    c = 2 * z * z % P
    h = a + b
    e = h - (x + y) * (x + y) % P
    g = a - b
    f = c + g
    return (e * f % P, g * h % P, f * g % P, e * h % P)


def _encode(p):
    z = pow(p[2], P - 2, P)
    return (p[1] * z % P | (p[0] * z % P & 1) << 255).to_bytes(32, "little")


def _decode(data):
    """The point, unless it is none, is not in its one form, or is one of those that sign anything."""
    y = _number(data)
    sign = y >> 255
    y &= (1 << 255) - 1
    if y >= P or y in _WEAK:
        return None
    yy = y * y % P
    u, v = yy - 1, D * yy + 1
    x = u * pow(v, 3, P) * pow(u * pow(v, 7, P) % P, (P - 5) // 8, P) % P
    if (v * x * x - u) % P:
        if (v * x * x + u) % P:
            return None
        x = x * _I % P
    if x & 1 != sign:
        x = P - x
    return (x, y, 1, x * y % P)


def is_key(data):
    return len(data) == 32 and _decode(data) is not None


def verify(key, message, signature):
    """Whether the signature is right, as strictly as anybody could ask."""
    if len(key) != 32 or len(signature) != 64:
        return False
    a, s = _decode(key), _number(signature[32:])
    if a is None or s >= L or _number(signature[:32]) & ((1 << 255) - 1) in _WEAK:
        return False
    k = _number((yield from sha512(signature[:32] + key + message))) % L
    # s*B - k*A, two bits of both at a time.
    a = (P - a[0], a[1], 1, P - a[3])
    table = []
    row = _IDENTITY
    for _ in range(4):
        entry = row
        for _ in range(4):
            table.append(entry)
            entry = _add(entry, a)
        row = _add(row, _BASE)
    yield
    q = _IDENTITY
    for i in range(252, -2, -2):
        q = _add(_double(_double(q)), table[(s >> i & 3) * 4 + (k >> i & 3)])
        if i & 7 == 0:
            yield
    return _encode(q) == signature[:32]


def _times_base(n):
    """n*B by a comb: bits n, n+64, n+128 and n+192 at a time."""
    global _comb
    if _comb is None:
        table = [_IDENTITY]
        p = _BASE
        for tooth in range(4):
            table += [_add(p, q) for q in table]
            for i in range(64 if tooth < 3 else 0):
                p = _double(p)
                if i & 7 == 7:
                    yield
        _comb = table
    q = _IDENTITY
    for i in range(63, -1, -1):
        pick = n >> i & 1 | (n >> i + 64 & 1) << 1 | (n >> i + 128 & 1) << 2 | (n >> i + 192 & 1) << 3
        q = _add(_double(q), _comb[pick])
        if i & 7 == 0:
            yield
    return _encode(q)


def expand(seed):
    """What signs: the secret number, and what hides it."""
    h = yield from sha512(seed)
    return _number(h[:32]) & ((1 << 254) - 8) | 1 << 254, h[32:]


def public(secret):
    return (yield from _times_base(secret[0]))


def sign(secret, key, message):
    r = _number((yield from sha512(secret[1] + message))) % L
    begin = yield from _times_base(r)
    k = _number((yield from sha512(begin + key + message))) % L
    return begin + ((r + k * secret[0]) % L).to_bytes(32, "little")
