"""MQTT 3.1.1 over TLS, for a node that has other things to do: every step that would wait is a generator that yields.

One write per packet; everything has a deadline, so that a half-open connection ends; packets that are too large are
skipped without memory. A session begins clean: what counts is retained, and asked for again by each subscribing.
"""

import errno, select, socket, time
import tls

MAX_PACKET = 8 * 1024
PATIENCE_MS = 20_000
KEEP_ALIVE_SECS = 30


class Lost(Exception):
    """The connection is over."""


def dns_query(host, mark):
    labels = b"".join(bytes([len(label)]) + label.encode() for label in host.split("."))
    return mark + b"\1\0\0\1\0\0\0\0\0\0" + labels + b"\0\0\1\0\1"


def dns_answer(query, answer):
    """The first address (RFC 1035, 4.1), or None where there is none."""
    at = len(query)
    if answer[:2] != query[:2] or answer[12:at] != query[12:]:
        return None
    for _ in range(int.from_bytes(answer[6:8], "big")):
        while at < len(answer) and answer[at] and answer[at] < 0xC0:
            at += 1 + answer[at]
        at += 2 if at < len(answer) and answer[at] else 1
        size = int.from_bytes(answer[at + 8 : at + 10], "big")
        if answer[at : at + 4] == b"\0\1\0\1" and len(answer) >= at + 14 and size == 4:
            return ".".join(str(byte) for byte in answer[at + 10 : at + 14])
        at += 10 + size
    return None


def _text(text):
    data = text if isinstance(text, bytes) else text.encode()
    return len(data).to_bytes(2, "big") + data


class Mqtt:
    def __init__(self, got):
        self.got = got  # called with topic and payload, or None for what was too large; must not wait
        self.sock = self.raw = None
        self.waiting = {}  # packet id: what it is for
        self._id = 0
        self._room = bytearray(4608)  # for nearly every packet: a piece of an object is one
        self.kept = False  # whether the payload lies elsewhere, so that it may be kept as it is

    def connect(self, host, address, port, ca, node, password, will):
        """Connects, checks that the certificate is of `host`, logs in. `will` is topic and payload, retained."""
        deadline = time.ticks_add(time.ticks_ms(), PATIENCE_MS)
        self.raw = socket.socket()
        self.raw.setblocking(False)
        try:
            self.raw.connect(socket.getaddrinfo(address, port)[0][-1])
        except OSError as error:
            if error.errno != errno.EINPROGRESS:
                raise
        poller = select.poll()
        poller.register(self.raw, select.POLLOUT)
        while not poller.poll(0):
            yield from self._wait(deadline)
        context = tls.SSLContext(tls.PROTOCOL_TLS_CLIENT)
        context.verify_mode = tls.CERT_REQUIRED
        context.load_verify_locations(ca)
        self.sock = context.wrap_socket(self.raw, server_hostname=host, do_handshake_on_connect=False)
        flags = 0xC0 | 0x04 | 0x08 | 0x20 | 0x02  # user, password, will at QoS 1, retained; clean session
        body = _text("MQTT") + bytes([4, flags]) + KEEP_ALIVE_SECS.to_bytes(2, "big")
        for part in (node, will[0], will[1], node, password):
            body += _text(part)
        yield from self._write(0x10, body)
        kind, answer = yield from self._packet(deadline)
        if kind != 0x20 or len(answer) != 2 or answer[1]:
            raise Lost("the bus refuses the login with code %s" % answer[-1:])
        self._heard = self._sent = time.ticks_ms()

    def close(self):
        for sock in (self.sock, self.raw):
            if sock:
                try:
                    sock.close()
                except OSError:
                    pass
        self.sock = self.raw = None
        self.waiting = {}

    def publish(self, topic, payload, retain=False, qos=0):
        body = _text(topic)
        if qos:
            body += self._next(topic)
        yield from self._write(0x30 | qos << 1 | retain, body + payload)

    def subscribe(self, topics):
        """All at QoS 1. Whoever refuses one of them ends the connection."""
        body = self._next("subscription")
        for topic in topics:
            body += _text(topic) + b"\x01"
        yield from self._write(0x82, body)

    def turn(self):
        """Handles at most one packet; whether there was one."""
        found = yield from self._packet(None)
        now = time.ticks_ms()
        if found:
            self._heard = now
            yield from self._handle(*found)
            return True
        if time.ticks_diff(now, self._heard) > (KEEP_ALIVE_SECS + 10) * 1000:
            raise Lost("the bus is silent")
        if time.ticks_diff(now, self._sent) > KEEP_ALIVE_SECS * 500:
            yield from self._write(0xC0, b"")  # it answers, so silence is noticed
        for began, what in self.waiting.values():
            if time.ticks_diff(now, began) > PATIENCE_MS:
                raise Lost("no acknowledgement of " + what)
        return False

    def _handle(self, kind, body):
        if kind & 0xF0 == 0x30:
            size = int.from_bytes(body[:2], "big")
            topic, at = str(body[2 : 2 + size], "utf-8"), 2 + size  # the payload is read before the next packet is
            if kind & 6:
                yield from self._write(0x40, body[at : at + 2])
                at += 2
            self.got(topic, None if kind & 0x100 else memoryview(body)[at:])
        elif kind in (0x40, 0x90):
            self.waiting.pop(int.from_bytes(body[:2], "big"), None)
            if kind == 0x90 and 0x80 in bytes(body[2:]):
                raise Lost("the bus refuses a subscription")

    def _next(self, what):
        self._id = self._id % 0xFFFF + 1
        self.waiting[self._id] = (time.ticks_ms(), what)
        return self._id.to_bytes(2, "big")

    def _wait(self, deadline):
        if deadline is not None and time.ticks_diff(time.ticks_ms(), deadline) >= 0:
            raise Lost("no answer in time")
        yield

    def _write(self, kind, body):
        head, size = bytearray([kind]), len(body)
        while True:
            head.append(size & 127 | (128 if size > 127 else 0))
            size >>= 7
            if not size:
                break
        packet, at = memoryview(bytes(head) + body), 0
        deadline = time.ticks_add(time.ticks_ms(), PATIENCE_MS)
        while at < len(packet):
            n = self.sock.write(packet[at:])
            if n:
                at += n
            else:
                yield from self._wait(deadline)
        self._sent = time.ticks_ms()

    def _read(self, view, deadline):
        """Fills a buffer."""
        at = 0
        while at < len(view):
            n = self.sock.readinto(view[at:])
            if n == 0:
                raise Lost("the bus has hung up")
            if n:
                at += n
            else:
                yield from self._wait(deadline)
        return view

    def _packet(self, deadline):
        """The next packet; without a deadline None when none has begun. A large one is cut, with 0x100 in its kind."""
        first = self.sock.read(1)
        while not first:
            if first == b"":
                raise Lost("the bus has hung up")
            if deadline is None:
                return None
            yield from self._wait(deadline)
            first = self.sock.read(1)
        deadline = time.ticks_add(time.ticks_ms(), PATIENCE_MS)
        size, shift, room = 0, 0, memoryview(self._room)
        while True:
            byte = (yield from self._read(room[:1], deadline))[0]
            size |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                break
            if shift > 21:
                raise Lost("the bus sends no MQTT")
        kind, self.kept = first[0], len(room) < size <= MAX_PACKET
        if self.kept:
            try:
                return kind, (yield from self._read(memoryview(bytearray(size)), deadline))
            except MemoryError:
                self.kept = False
        elif size <= len(room):
            return kind, (yield from self._read(room[:size], deadline))
        yield from self._read(room[:600], deadline)
        size -= 600
        while size:  # dropped
            size -= len((yield from self._read(room[600 : 600 + min(size, 4000)], deadline)))
        return kind | 0x100, room[:600]
