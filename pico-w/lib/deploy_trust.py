"""Whom this node believes: envelopes, root documents, its record, announcements. Bytes are verified before they are read.

The reference is `schemas` (seal, root, announcement, mandate). Whatever is not believed ends as Refused, with a code that
reports carry. What verifies is a generator: an Ed25519 signature takes a Pico more than a second.
"""

from hashlib import sha256

import deploy_cbor as cbor
import deploy_ed25519 as ed25519

SLACK_SECS = 600  # so much may clocks differ
_MAX_BYTES = {"root": 16384, "order": 65536, "release": 65536, "record": 16384, "mandate": 8192}
_MAX_SIGNATURES = 16


class Refused(Exception):
    def __init__(self, reason, text):
        self.reason, self.text = reason, text


def digest(data):
    return sha256(data).digest()


def key_id(key):
    return digest(key)[:8]


def believe(steps):
    """Runs a verification; what has another shape than it should is refused like any other."""
    try:
        return (yield from steps)
    except (ValueError, KeyError, TypeError, IndexError, AttributeError) as error:
        raise Refused("malformed", "not a document of this kind: " + repr(error))


def signed_bytes(kind, p):
    return b"deploybus/1\0" + kind.encode() + b"\0" + len(p).to_bytes(8, "big") + p


def _check(kind, envelope, keys, threshold=1):
    """Whether so many of `keys`, which are by id, have signed. Each counts once."""
    p = envelope["p"]
    if len(p) > _MAX_BYTES[kind]:
        raise Refused("too-large", "%s of %d bytes" % (kind, len(p)))
    message, valid = signed_bytes(kind, p), set()
    for signer, signature in envelope["s"][:_MAX_SIGNATURES]:
        if signer in keys and signer not in valid:
            if (yield from ed25519.verify(keys[signer], message, signature)):
                valid.add(signer)
    if len(valid) < threshold:
        reason = "too-few-signatures" if valid else "bad-signature"
        raise Refused(reason, "%s has %d of %d valid signatures" % (kind, len(valid), threshold))


def _open(kind, envelope, fleet=None):
    document = cbor.decode(envelope["p"])
    head = document["head"]
    if head["spec"] > 1:
        raise Refused("spec-too-new", "%s has version %d" % (kind, head["spec"]))
    if head.get("crit"):
        raise Refused("unknown-critical-field", "%s needs a reader that knows %s" % (kind, head["crit"][0]))
    if fleet not in (None, head["fleet"]):
        raise Refused("wrong-fleet", "%s is for fleet %s" % (kind, head["fleet"]))
    if not isinstance(head["issued_at"], int):
        raise ValueError("no time")
    return document


class Trust:
    """The keys that count, as a root document says that was verified or came by a trusted way."""

    def __init__(self, envelope):
        root = _open("root", envelope)
        self.envelope, self.digest = envelope, digest(envelope["p"])
        self.fleet, self.version, self.expires = root["head"]["fleet"], root["version"] + 0, root["expires"] + 0
        self.reset, self.roles, keys = root.get("reset", []), {}, {}
        for key in root["keys"]:
            if not ed25519.is_key(key):
                raise Refused("weak-key", "root %d lists a weak key" % self.version)
            if keys.setdefault(key_id(key), key) != key:
                raise ValueError("two keys with one id")
        for role in ("root", "release", "ops"):
            ids, threshold = set(root["roles"][role]["keys"]), root["roles"][role]["threshold"]
            if not 0 < threshold <= min(len(ids), _MAX_SIGNATURES):
                raise ValueError("no usable keys for " + role)
            self.roles[role] = ({id: keys[id] for id in ids}, threshold)

    def check(self, role, kind, envelope):
        yield from _check(kind, envelope, *self.roles[role])

    def verify(self, role, kind, envelope):
        yield from self.check(role, kind, envelope)
        return _open(kind, envelope, self.fleet)

    def follow(self, chain):
        """The root that follows this one in a chain, or None when this is the last."""
        first, roots = chain["first"], chain["roots"]
        last, at = first + len(roots) - 1, self.version - first
        if not roots or last < self.version:
            raise Refused("replayed", "root %d came after root %d" % (last, self.version))
        if at < -1:
            raise Refused("root-gap", "the chain begins at root %d, root %d is trusted" % (first, self.version))
        if at >= 0 and digest(roots[at]["p"]) != self.digest:
            raise Refused("root-fork", "another root %d than the trusted one" % self.version)
        if last == self.version:
            return None
        envelope = roots[at + 1]
        yield from self.check("root", "root", envelope)
        if _open("root", envelope, self.fleet)["version"] != self.version + 1:
            raise Refused("replayed", "what follows root %d is another one" % self.version)
        successor = Trust(envelope)
        yield from successor.check("root", "root", envelope)
        return successor

    def record(self, data, node, known):
        """The node's record, unless it is the known one."""
        envelope = cbor.decode(data)
        if known and digest(envelope["p"]) == known["digest"]:
            return None
        record = yield from self.verify("ops", "record", envelope)
        if record["node"] != node:
            raise Refused("wrong-topic", "record of " + record["node"])
        if known and record["seq"] <= known["seq"]:
            reason = "replayed" if record["seq"] < known["seq"] else "revision-conflict"
            raise Refused(reason, "record %d came after record %d" % (record["seq"], known["seq"]))
        groups = record["groups"] if record["status"] == "active" else []
        return {"digest": digest(envelope["p"]), "seq": record["seq"], "groups": groups}

    def announcement(self, data, group, app):
        """The order and the release of a group's topic, with their digests, once they are believed."""
        data = cbor.decode(data)
        mandate = data.get("mandate")
        if mandate is None:
            order = yield from self.verify("ops", "order", data["order"])
        else:
            mandate = yield from self.verify("ops", "mandate", mandate)
            keys = {key_id(key): key for key in mandate["keys"][:4] if ed25519.is_key(key)}
            yield from _check("order", data["order"], keys)
            order = _open("order", data["order"], self.fleet)
            if not (
                order["app"] == mandate["app"]
                and order["group"] in mandate["groups"]
                and order["release"] == mandate["release"]
                and mandate["first"] <= order["revision"] <= mandate["last"]
                and order["expires"] <= mandate["expires"]
                and not order.get("policy", {}).get("urgent")
                and order.get("continues") == mandate["first"]
            ):
                raise Refused("beyond-mandate", "order %d is beyond its mandate" % order["revision"])
        if (order["group"], order["app"]) != (group, app):
            raise Refused("wrong-topic", "order for %s/%s" % (order["group"], order["app"]))
        if order["release"] != digest(data["release"]["p"]):
            raise Refused("wrong-release", "order names another release")
        release = yield from self.verify("release", "release", data["release"])
        if release["app"] != app:
            raise Refused("wrong-release", "order names another release")
        order["digest"] = digest(data["order"]["p"])
        # What a controller says of the time counts for nothing.
        order["signed_at"] = (mandate or order)["head"]["issued_at"]
        return order, release


def includes(audience, node):
    """Whether an order is for this node."""
    if audience == "all":
        return True
    if "nodes" in audience:
        return node in audience["nodes"]
    share = audience["share"]
    place = digest((share["salt"] + "\0" + node).encode())
    return int.from_bytes(place[:2], "big") * 1000 < share["permille"] * 0x10000


def place_ms(node, salt, range_ms):
    """The place of this node within so much time."""
    place = digest((node + "\0" + salt).encode())
    return int.from_bytes(place[:8], "big") * range_ms >> 64


def manifest(data, size):
    """Files and folders of a tree, checked as schemas::manifest does: (path, size, digest), with None for folders."""
    found = cbor.decode(data)
    if set(found) != {1, 2} or found[1] != 1:
        raise ValueError("not a manifest of version 1")
    entries, seen, folders, total, before = [], set(), set(), 0, b""
    for kind, path, *rest in found[2]:
        parent = path.rsplit("/", 1)[0] if "/" in path else None
        plain = all(part not in ("", ".", "..") for part in path.split("/")) and "\0" not in path
        if kind not in (0, 2) or not plain or path.lower() in seen or not (parent is None or parent in folders):
            raise ValueError("the path %r cannot be on a Pico" % path)
        if path.encode() <= before:
            raise ValueError("not in order")
        before = path.encode()
        seen.add(path.lower())
        if kind == 2:
            folders.add(path)
            entries.append((path, 0, None))
        else:
            _, length, sha = rest
            if length < 0 or len(sha) != 32:
                raise ValueError("no file")
            total += length
            entries.append((path, length, sha))
    if total != size:
        raise ValueError("not as announced")
    return entries
