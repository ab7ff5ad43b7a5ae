"""How the bridge brings a release over USB. It is pasted into the raw REPL, then its functions are called there.

    look(release)                    one JSON line: what this Pico is, its slots, and the digests of what has come already
    folder(release, path)            a folder, also an empty one
    put(release, path, size, sha)    then the content follows in frames of 1 KiB; each is asked for by one byte K: a
                                     byte 3 before that would interrupt this. Last comes a line with the digest as it was
                                     read back from the flash
    done(release, tries, secs)       complete: the release goes on trial at the next boot
    reset()                          that boot

The watchdog stays armed: when the host goes away in the middle, the Pico starts what it ran before, and look() finds
what is here already. The host calls something, be it feed(), at least every four seconds.
"""

import json, machine, micropython, os, sys
import deploy_guard as guard

FRAME = 1024
guard.start_dog()
feed = guard.feed


def _walk(path, found, cut):
    for name, kind, *_ in os.ilistdir(path):
        inner = path + "/" + name
        if kind & 0x4000:
            _walk(inner, found, cut)
        else:
            found[inner[cut:]] = guard.digest(inner)


def look(release, need=0):
    guard.make("/apps")
    guard.make("/deploy")
    guard.prune([release, release + ".tmp"])
    guard.make_room(need, [release, release + ".tmp"])
    found, tmp = {}, "/apps/" + release + ".tmp"
    if guard.exists(tmp):
        _walk(tmp, found, len(tmp) + 1)
    block, _, _, free = os.statvfs("/")[:4]
    said = {"id": machine.unique_id().hex(), "machine": sys.implementation._machine}
    said.update({"version": list(sys.implementation.version[:3]), "mpy": sys.implementation._mpy, "free": block * free})
    said.update({"slots": guard.load(), "complete": guard.is_there(release), "here": found})
    print(json.dumps(said))


def folder(release, path):
    guard.make("/apps/" + release + ".tmp/" + path)


def put(release, path, size, sha):
    full = "/apps/" + release + ".tmp/" + path
    guard.make(full.rsplit("/", 1)[0])
    buf = memoryview(bytearray(FRAME))
    micropython.kbd_intr(-1)
    try:
        with open(full, "wb") as f:
            while size:
                want, got = min(size, FRAME), 0
                sys.stdout.write("K")
                while got < want:
                    got += sys.stdin.buffer.readinto(buf[got:want]) or 0
                feed()
                f.write(buf[:want])
                size -= want
    finally:
        micropython.kbd_intr(3)
    found = guard.digest(full)
    if found != sha:
        os.remove(full)
    print(found)


def done(release, tries=3, secs=10):
    if not guard.is_there(release):
        guard.make("/apps/" + release + ".tmp")  # a release may be empty
        os.rename("/apps/" + release + ".tmp", "/apps/" + release)
    guard.stage(release, tries, secs)
    print(json.dumps(guard.load()))


def reset():
    machine.reset()
