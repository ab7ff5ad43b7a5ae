"""How the bridge brings a release over USB. It is pasted into the raw REPL, then its functions are called there.

    look(release)                    one JSON line: what this Pico is, its slots, and the digests of what has come already
    folder(release, path)            a folder, also an empty one
    put(release, path, size, sha)    then the content follows in frames of 1 KiB; each is answered by one byte K,
                                     the last one by a line with the digest as it was read back from the flash
    done(release, tries, secs)       complete: the release goes on trial at the next boot
    reset()                          that boot

The watchdog stays armed: when the host goes away in the middle, the Pico starts what it ran before, and look() finds
what is here already. The host calls something, be it feed(), at least every four seconds.
"""

import hashlib, json, machine, micropython, os, sys
import deploy_guard as guard

FRAME = 1024
_dog = machine.WDT(timeout=guard.DOG_MS)


def feed():
    _dog.feed()


def _digest(path):
    sha, buf = hashlib.sha256(), bytearray(FRAME)
    with open(path, "rb") as f:
        while True:
            n = f.readinto(buf)
            if not n:
                return sha.digest().hex()
            feed()
            sha.update(memoryview(buf)[:n])


def _exists(path):
    try:
        os.stat(path)
        return True
    except OSError:
        return False


def _make(path):
    """The folder and those that it is in."""
    at = 0
    while at >= 0:
        at = path.find("/", at + 1)
        part = path if at < 0 else path[:at]
        if not _exists(part):
            os.mkdir(part)


def _remove(path):
    for name, kind, *_ in os.ilistdir(path):
        feed()
        if kind & 0x4000:
            _remove(path + "/" + name)
        else:
            os.remove(path + "/" + name)
    os.rmdir(path)


def prune(keep=()):
    """Removes releases that nothing names. A name without .old or .tmp is a complete release, always."""
    slots = guard.load()
    keep = [slots.get(key) for key in ("cur", "prev", "try")] + list(keep)
    for name in os.listdir("/apps"):
        if name in keep:
            continue
        path = "/apps/" + name
        if not name.endswith((".old", ".tmp")):
            os.rename(path, path + ".old")
            path += ".old"
        _remove(path)


def make_room(need):
    """Room for so many bytes; what ran before the present release goes if it must."""
    block, _, _, free = os.statvfs("/")[:4]
    if block * free < need:
        slots = guard.load()
        if slots.pop("prev", None):
            guard.save(slots)
            prune()


def _walk(path, found, cut):
    for name, kind, *_ in os.ilistdir(path):
        inner = path + "/" + name
        if kind & 0x4000:
            _walk(inner, found, cut)
        else:
            found[inner[cut:]] = _digest(inner)


def look(release, need=0):
    _make("/apps")
    _make("/deploy")
    prune([release, release + ".tmp"])
    make_room(need)
    found, tmp = {}, "/apps/" + release + ".tmp"
    if _exists(tmp):
        _walk(tmp, found, len(tmp) + 1)
    block, _, _, free = os.statvfs("/")[:4]
    said = {"id": machine.unique_id().hex(), "machine": sys.implementation._machine}
    said.update({"version": list(sys.implementation.version[:3]), "mpy": sys.implementation._mpy, "free": block * free})
    said.update({"slots": guard.load(), "complete": guard.is_there(release), "here": found})
    print(json.dumps(said))


def folder(release, path):
    _make("/apps/" + release + ".tmp/" + path)


def put(release, path, size, sha):
    full = "/apps/" + release + ".tmp/" + path
    _make(full.rsplit("/", 1)[0])
    buf = memoryview(bytearray(FRAME))
    micropython.kbd_intr(-1)
    try:
        with open(full, "wb") as f:
            while size:
                want, got = min(size, FRAME), 0
                while got < want:
                    got += sys.stdin.buffer.readinto(buf[got:want]) or 0
                feed()
                f.write(buf[:want])
                size -= want
                sys.stdout.write("K")
    finally:
        micropython.kbd_intr(3)
    found = _digest(full)
    if found != sha:
        os.remove(full)
    print(found)


def done(release, tries=3, secs=10):
    if not guard.is_there(release):
        _make("/apps/" + release + ".tmp")  # a release may be empty
        os.rename("/apps/" + release + ".tmp", "/apps/" + release)
    guard.stage(release, tries, secs)
    print(json.dumps(guard.load()))


def reset():
    machine.reset()
