"""Asks what runs on a Pico what it believes: for MicroPython's unix port. One question a line, one answer a line.

    ed KEY MESSAGE SIGNATURE         yes | no
    sign SEED MESSAGE                the public key and the signature
    cbor BYTES                       yes, and whether it encodes to the same bytes | no
    announce ROOT GROUP APP BYTES    yes | the reason
    record ROOT NODE BYTES           yes | the reason
    follow ROOT BYTES                the version that is trusted then | the reason
    manifest SIZE BYTES              yes | no
    dns HOST ANSWER                  the address | no
    time                             microseconds of a verification, of a signature, and the heap that they take at most
"""

import gc, os, sys, time

sys.path.insert(0, os.getenv("PICO_REPO") + "/pico-w/lib")

import deploy_cbor as cbor
import deploy_ed25519 as ed25519
import deploy_mqtt as mqtt
import deploy_trust as trust


def run(steps):
    try:
        while True:
            next(steps)
    except StopIteration as stop:
        return stop.value


def hex(data):
    return "".join("%02x" % byte for byte in data)


def ed(key, message, signature):
    return "yes" if run(ed25519.verify(key, message, signature)) else "no"


def sign(seed, message):
    secret = run(ed25519.expand(seed))
    key = run(ed25519.public(secret))
    return hex(key) + " " + hex(run(ed25519.sign(secret, key, message)))


def decode(data):
    value = cbor.decode(data)
    return "yes" if cbor.decode(cbor.encode(value)) == value else "changed"


def announce(root, group, app, data):
    believed = trust.Trust(cbor.decode(root))
    run(trust.believe(believed.announcement(data, str(group, "utf-8"), str(app, "utf-8"))))
    return "yes"


def record(root, node, data):
    run(trust.believe(trust.Trust(cbor.decode(root)).record(data, str(node, "utf-8"), None)))
    return "yes"


def follow(root, data):
    believed = trust.Trust(cbor.decode(root))
    try:
        chain = cbor.decode(data)
    except ValueError:
        return "malformed"
    while True:
        successor = run(trust.believe(believed.follow(chain)))
        if successor is None:
            return str(believed.version)
        believed = successor


def manifest(size, data):
    return "yes" if trust.manifest(data, int.from_bytes(size, "big")) is not None else "no"


def dns(host, answer):
    query = mqtt.dns_query(str(host, "utf-8"), b"\x12\x34")
    return mqtt.dns_answer(query, answer) or "no"


def measure():
    seed, message = bytes(range(32)), bytes(400)
    key, signature = (bytes.fromhex(part) for part in sign(seed, message).split())
    secret = run(ed25519.expand(seed))
    taken, heap = [], 0
    for watched in (False, True):
        for steps in (ed25519.verify(key, message, signature), ed25519.sign(secret, key, message)):
            gc.collect()
            before, began = gc.mem_alloc(), time.ticks_us()
            try:
                while True:
                    next(steps)
                    if watched:
                        gc.collect()
                        heap = max(heap, gc.mem_alloc() - before)
            except StopIteration:
                taken.append(time.ticks_diff(time.ticks_us(), began))
    return "%d %d %d" % (taken[0], taken[1], heap)


ASK = {"ed": ed, "sign": sign, "cbor": decode, "announce": announce, "record": record, "follow": follow}
ASK.update({"manifest": manifest, "dns": dns, "time": measure})
for line in sys.stdin:
    name, *args = line.split()
    try:
        print(ASK[name](*(bytes.fromhex(arg[1:]) for arg in args)))
    except trust.Refused as refused:
        print(refused.reason)
    except ValueError:
        print("no")
