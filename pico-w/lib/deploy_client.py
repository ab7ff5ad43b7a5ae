"""A Pico W as a node of its own: Wi-Fi, time, TLS, the bus, what is ordered there, and back to say how it went.

Everything is one chain of generators of which each sign of life of the app takes a step; so the app goes on meanwhile.
What must survive a cut is in /deploy/node (CBOR, replaced as a whole) before it is relied on.
"""

import gc, json, machine, os, socket, sys, time
import deploy_cbor as cbor
import deploy_ed25519 as ed25519
import deploy_guard as guard
import deploy_mqtt as mqtt
from deploy_trust import SLACK_SECS, Refused, Trust, believe, digest, includes, manifest, place_ms

AGENT = "pico-w 1"
CHUNK = 4096
KEEP_BYTES = 16 * CHUNK  # what a power cut costs at most of a file
MAX_MANIFEST = 8 * 1024
FIRST_SECS = 15  # before the app starts: an app that hangs at once can still be replaced
HEALTH_SECS = 60
ASK_AGAIN_SECS = 20 * 60
DAY_SECS = 24 * 3600
FRESH_BYTES = 80 * 1024  # with less free memory an update waits for a fresh boot
EPOCH = 0 if time.gmtime(0)[0] == 1970 else 946684800
ATTACKS = "bad-signature too-few-signatures weak-key wrong-fleet wrong-topic wrong-release beyond-mandate root-fork"
ATTACKS = (ATTACKS + " replayed digest-mismatch below-floor").split()
BEGUN = ("kept", "rolled_back", "failed")


def _decoded(data):
    try:
        return cbor.decode(data)
    except ValueError as error:
        raise Refused("malformed", repr(error))


def _taken(path, block):
    """What of a folder lies on the flash already."""
    taken = 0
    for name, kind, *_ in os.ilistdir(path):
        part = path + "/" + name
        taken += 2 * block + _taken(part, block) if kind & 0x4000 else -(-os.stat(part)[6] // block) * block
    return taken


class Failed(Exception):
    """An order that ends badly before the switch."""

    def __init__(self, reason, text, verdict="failed"):
        self.reason, self.text, self.verdict = reason, text, verdict


def _replace(path, data):
    with open(path + ".new", "wb") as f:
        f.write(data)
    os.rename(path + ".new", path)


def _read(path):
    with open(path, "rb") as f:
        return f.read()


def _sleep(secs):
    until = time.ticks_add(time.ticks_ms(), int(secs * 1000))
    while time.ticks_diff(until, time.ticks_ms()) > 0:
        yield


def _stamp(secs):
    return "%04d-%02d-%02dT%02d:%02d:%02dZ" % time.gmtime(max(0, secs - EPOCH))[:6]


class Client:
    def __init__(self):
        self.config = json.loads(_read("/deploy/config.json"))
        self.node, self.topic = self.config["node"], self.config["fleet"] + "/v1/"
        self.own = self.topic + "node/" + self.node + "/"
        chip = "rp2350" if "RP2350" in sys.implementation._machine else "rp2040"
        self.platform = self.config.get("platform") or sys.platform + "/" + chip
        self.trust = Trust(cbor.decode(_read("/deploy/root.cbor")))
        try:
            self.state = cbor.decode(_read("/deploy/node"))
        except (OSError, ValueError):
            self.state = {"boot": 0, "floor": self.config["made_at"], "record": None, "outcomes": [], "others": {}}
            self.state.update({"seen": {}, "done": {}, "obeyed": 0, "counter_floor": 0, "app": None})
            self.state.update({"installed": None, "previous": None, "trying": None, "fresh": 0})
        self.seq, self.refusals, self.phase, self.permille = 0, [], "idle", 0
        self.started = time.ticks_ms()
        self.clock_set = self.boot_counted = self.reported = self.settled = self.app_runs = False
        self.inbox, self.chunk, self.missed, self.fetched = {}, None, False, [0, 0]
        self.offer = self.under_way = None  # what is to begin, what has begun
        self.bus = mqtt.Mqtt(self._got)
        self.steps = self._run()

    def work(self):
        try:
            next(self.steps)
        except (StopIteration, Exception) as error:  # whatever goes wrong here, the app goes on
            self._lost(error)
            self.steps = self._run(5)
        self.worked = time.ticks_ms()

    def is_on_bus(self):
        return self.reported and time.ticks_diff(time.ticks_ms(), self.worked) < 1000

    def now(self):
        return max(int(time.time()) + EPOCH, self.state["floor"])

    def save(self):
        _replace("/deploy/node", cbor.encode(self.state))

    def _run(self, pause=0):
        yield from _sleep(pause)
        self._settle_trial()
        while True:
            began = time.ticks_ms()
            try:
                yield from self._session()
            except (OSError, mqtt.Lost, ValueError, MemoryError) as error:
                self._lost(error)
            was_long = time.ticks_diff(time.ticks_ms(), began) > 60_000
            pause = 1 if was_long else min(60, pause * 2 or 1)
            yield from _sleep(pause * (0.5 + os.urandom(1)[0] / 256))

    def _lost(self, error):
        guard.say("offline", why=repr(error))
        self.bus.close()
        self.reported = self.settled = False
        # What is ordered is retained, and judged anew: its time may be over by then.
        self.chunk, self.inbox, self.under_way, self.offer = None, {}, None, None
        gc.collect()

    def _session(self):
        yield from self._wifi()
        yield from self._clock()
        if not self.state["record"]:
            record = yield from believe(self.trust.record(_read("/deploy/record.cbor"), self.node, None))
            self.state["record"] = record
        c = self.config
        will = (self.own + "availability", "offline")
        address, ca = (yield from self._resolve(c["host"])), _read("/deploy/ca.der")
        yield from self.bus.connect(c["host"], address, c["port"], ca, self.node, c["password"], will)
        if not self.boot_counted:  # not before there is a bus: a loop of crashes writes nothing
            self.state["boot"] += 1
            self.boot_counted = True
            self.save()
        yield from self._subscribe()
        yield from self.bus.publish(self.own + "availability", b"online", True, 1)
        yield from self._mirror("info", self._info())
        self.news, health, again = True, 0, time.ticks_ms()
        self.spoken = time.ticks_add(again, -10_000)
        while True:
            if self._settle_trial():
                self.news = self.missed = True  # what was ordered meanwhile
            if self.news and time.ticks_diff(time.ticks_ms(), self.spoken) > 1000:  # signing is work
                self.news, self.spoken = False, time.ticks_ms()
                yield from self._report()
            busy = yield from self.bus.turn()
            while self.inbox:
                busy = self.news = True
                topic = next(iter(self.inbox))
                yield from self._read_message(topic, self.inbox.pop(topic))
            if not busy and not self.news and not self.bus.waiting:
                self.reported = True
                if self.offer and time.ticks_diff(time.ticks_ms(), self.offer["due"]) >= 0:
                    yield from self._begin(self.offer)
                    self.news = True
                else:
                    self.settled = True
            now = time.ticks_ms()
            if self.missed or time.ticks_diff(now, again) > ASK_AGAIN_SECS * 1000:
                self.missed, again = False, now
                yield from self._subscribe()
            if not health or time.ticks_diff(now, health) > HEALTH_SECS * 1000:
                health = now
                yield from self._mirror("health", self._health())
            yield

    def _wifi(self):
        try:
            import network
        except ImportError:
            return  # the unix port
        self.wlan = network.WLAN(network.STA_IF)
        self.wlan.active(True)
        for net in self.config["wifi"]:
            if not self.wlan.isconnected():
                self.wlan.connect(net["ssid"], net["password"])
                until = time.ticks_add(time.ticks_ms(), 20_000)
                while not self.wlan.isconnected() and time.ticks_diff(until, time.ticks_ms()) > 0:
                    yield
        if not self.wlan.isconnected():
            raise mqtt.Lost("no Wi-Fi, status %d" % self.wlan.status())

    def _ask(self, address, port, question, understand):
        """Asks over UDP, three times at most; what `understand` makes of an answer, or None."""
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sock.setblocking(False)
        try:
            for _ in range(3):
                sock.sendto(question, socket.getaddrinfo(address, port)[0][-1])
                until = time.ticks_add(time.ticks_ms(), 1500)
                while time.ticks_diff(until, time.ticks_ms()) > 0:
                    yield
                    try:
                        found = understand(sock.recv(512))
                    except OSError:
                        continue
                    if found:
                        return found
        except OSError:
            pass
        finally:
            sock.close()

    def _resolve(self, host):
        """The address of a name. getaddrinfo would wait for longer than the watchdog where no DNS answers."""
        if not hasattr(self, "wlan") or all(c in "0123456789." for c in host):
            return host
        query = mqtt.dns_query(host, os.urandom(2))
        found = yield from self._ask(self.wlan.ifconfig()[3], 53, query, lambda data: mqtt.dns_answer(query, data))
        if not found:
            raise mqtt.Lost("no address for " + host)
        return found

    def _clock(self):
        """By NTP; else not before the newest time that was signed, which is enough for TLS and is said in reports."""
        if self.clock_set or not hasattr(machine, "RTC"):
            self.clock_set = True
            return
        secs = None
        try:
            address = yield from self._resolve(self.config["ntp"])
            secs = yield from self._ask(address, 123, b"\x1b" + bytes(47), self._ntp_time)
        except mqtt.Lost:
            pass
        self.clock_set = secs is not None
        y, month, day, hour, minute, second, weekday = time.gmtime((secs or self.now()) - EPOCH)[:7]
        machine.RTC().datetime((y, month, day, weekday, hour, minute, second, 0))

    def _ntp_time(self, answer):
        secs = int.from_bytes(answer[40:44], "big") - 2208988800
        return secs if len(answer) >= 44 and secs >= self.state["floor"] else None

    def _subscribe(self):
        topics = [self.topic + "trust", self.own + "record", self.topic + "chunk/data/" + self.node]
        topics += [self.topic + "release/" + group + "/+" for group in self.state["record"]["groups"]]
        yield from self.bus.subscribe(topics)

    def _got(self, topic, payload):
        """Called in the middle of anything: it only takes note."""
        if topic == self.topic + "chunk/data/" + self.node:
            self.chunk = payload or b"\0"  # where it was read; it counts until the next packet
        elif payload is None:
            self._refuse(topic, Refused("too-large", "more bytes than this Pico has room for"))
        elif payload and (len(self.inbox) < 4 or topic in self.inbox):
            self.inbox[topic] = payload if self.bus.kept else bytes(payload)
        elif payload:
            self.missed = True  # it comes again by another subscribing

    def _read_message(self, topic, data):
        levels = topic[len(self.topic) :].split("/")
        try:
            if levels[0] == "trust":
                yield from self._follow(_decoded(data))
            elif levels[0] == "release" and levels[1] in self.state["record"]["groups"]:
                if self.state["trying"]:
                    return  # it comes again after the trial
                yield from self._announced(levels[1], levels[2], data)
            elif topic == self.own + "record":
                record = yield from believe(self.trust.record(data, self.node, self.state["record"]))
                if record:
                    self.state["record"] = record
                    self.save()
                    raise mqtt.Lost("another record: begins anew with its groups")
        except Refused as refused:
            self._refuse(topic, refused)
        except (KeyError, TypeError, IndexError, AttributeError, OverflowError) as error:
            self._refuse(topic, Refused("malformed", repr(error)))

    def _refuse(self, topic, refused):
        reason, at, self.news = refused.reason, self.now(), True
        last = self.refusals[-1] if self.refusals else None
        if last and (last["topic"], last["reason"]) == (topic, reason):
            last.update({"times": last["times"] + 1, "at": at})
            return
        entry = {"topic": topic, "reason": reason, "text": refused.text, "attack": reason in ATTACKS}
        entry.update({"times": 1, "at": at})
        self.refusals = self.refusals[-3:] + [entry]

    def _follow(self, chain):
        while True:
            successor = yield from believe(self.trust.follow(chain))
            if successor is None:
                return
            self.trust = successor
            if "ops" in successor.reset:
                self.state.update({"seen": {}, "done": {}, "obeyed": 0})
                self.state["record"]["seq"] = 0
            if "release" in successor.reset:
                self.state["counter_floor"] = 0
            self.save()
            _replace("/deploy/root.cbor", cbor.encode(successor.envelope))

    def _announced(self, group, app, data):
        place, mark, state = group + "/" + app, digest(data)[:8], self.state
        if state["done"].get(place) == mark:
            return  # it was carried out, or was nothing for this node
        order, release = yield from believe(self.trust.announcement(data, group, app))
        revision, seen = order["revision"], state["seen"].get(place)
        if seen and revision < seen[0]:
            raise Refused("replayed", "order %d came after order %d" % (revision, seen[0]))
        if seen and revision == seen[0] and order["digest"] != seen[1]:
            raise Refused("revision-conflict", "two different orders carry revision %d" % revision)
        if not seen or revision > seen[0]:
            state["seen"][place] = [revision, order["digest"]]
            self._raise_floor(order["signed_at"])
            self.save()  # or a power cut would have it believe an older one
        try:
            offer = self._judge(order, release)
        except Failed as failed:
            self._end(self._subject(order, release), failed)
            offer = None
        if offer is None:
            state["done"][place] = mark
            self.save()
        elif not self.offer or revision >= self.offer["revision"]:
            offer.update({"place": place, "mark": mark})
            self.offer = offer
        if offer is None and self.offer and self.offer["place"] == place:
            self.offer = None

    def _raise_floor(self, signed_at):
        """It is no earlier than what was signed; nobody who signs moves it beyond the root, or a day beyond a clock that is set."""
        latest = self.trust.expires
        if self.clock_set:
            latest = min(latest, int(time.time()) + EPOCH + DAY_SECS)
        if self.state["floor"] < signed_at <= latest:
            self.state["floor"] = signed_at

    def _subject(self, order, release):
        subject = {"revision": order["revision"], "release": order["release"], "version": release["version"]}
        subject.update({"app": order["app"], "group": order["group"], "counter": release["counter"]})
        subject.update({"commit": release["provenance"]["commit"], "min_counter": release.get("min_counter", 0)})
        return subject

    def _judge(self, order, release):
        """What to begin with, or None when there is nothing to do."""
        state, revision = self.state, order["revision"]
        if not includes(order["audience"], self.node) or order["state"] == "paused" or revision < state["obeyed"]:
            return None
        if any(outcome["revision"] == revision for outcome in state["outcomes"]):
            return None
        begun = (o for o in state["outcomes"] if o["verdict"] in BEGUN and o["release"] == order["release"])
        first = min(order.get("continues") or revision, revision)
        offer, now = self._subject(order, release), self.now()
        if order["state"] == "active" and any(first <= outcome["revision"] < revision for outcome in begun):
            return None
        withdrawn = order["state"] != "active"
        if withdrawn:
            installed, previous = state["installed"], state["previous"]
            revert = order["state"]["withdrawn"]["revert"] and installed and installed["release"] == order["release"]
            if not revert:
                state["obeyed"] = revision
                return None
        if now > min(order["expires"], self.trust.expires) + SLACK_SECS:
            raise Failed("expired", "order %d expired at %s" % (revision, _stamp(order["expires"])), "refused")
        if withdrawn:
            if not previous or not guard.is_there(previous["name"]):
                raise Failed("withdrawn", "there is no release to go back to", "refused")
            offer = dict(previous)
            offer["revision"] = revision
        else:
            self._part(offer, release)
        if offer["counter"] < state["counter_floor"]:
            text = "release %s has counter %d, the floor is %d"
            raise Failed("below-floor", text % (offer["version"], offer["counter"], state["counter_floor"]), "refused")
        wait = place_ms(self.node, str(first), order.get("policy", {}).get("jitter_ms", 0))
        begin = max(order.get("not_before", 0), order["head"]["issued_at"])
        wait = max(0, order.get("not_before", 0) - now) * 1000 + max(0, wait - max(0, now - begin) * 1000)
        offer["due"] = time.ticks_add(time.ticks_ms(), min(wait, DAY_SECS * 1000))
        return offer

    def _part(self, offer, release):
        """The part for this kind of device: its own platform's before the one for any Pico."""
        for platform in (self.platform, "any"):
            for part in release["parts"]:
                if part["platform"] == platform and part["kind"] in (
                    ("micropython",) if platform == "any" else ("micropython", "tree")
                ):
                    if self.state["app"] not in (None, offer["app"]):
                        raise Failed("no-part", "this Pico runs the app " + self.state["app"], "refused")
                    trial = part.get("trial", {})
                    offer.update({"tree": part["tree_hash"], "size": part["size_bytes"]})
                    offer.update({"listed": part["manifest_bytes"], "tries": trial.get("tries", 3)})
                    offer.update({"secs": trial.get("min_healthy_ms", 5000) // 1000})
                    offer["limit"] = trial.get("deadline_ms", 120_000) // 1000
                    offer["name"] = part["tree_hash"].hex()[:32]
                    return
        raise Failed("no-part", "release %s has no part for %s" % (offer["version"], self.platform), "refused")

    def _begin(self, offer):
        """Brings what is ordered to the flash, and resets into its trial."""
        state, self.offer, self.settled = self.state, None, False
        self.fetched, self.permille, began = [0, 0], 0, time.ticks_ms()
        gc.collect()
        if self.app_runs and gc.mem_free() < FRESH_BYTES and state["fresh"] != offer["revision"]:
            state["fresh"] = offer["revision"]
            self.save()
            machine.reset()
        guard.say("fetching", version=offer["version"])
        self.under_way = offer
        try:
            yield from self._stage(offer)
        except Failed as failed:
            self._end(offer, failed, began)
            return
        finally:
            self.phase, self.under_way = "idle", None
        offer["began"], offer["took"] = self.now(), time.ticks_diff(time.ticks_ms(), began)
        offer["fetched"] = list(self.fetched)
        state["trying"], state["obeyed"], state["app"] = offer, offer["revision"], offer["app"]
        state["others"].pop(offer["app"], None)
        self.save()
        self.phase = "switching"
        yield from self._report()
        guard.stage(offer["name"], offer["tries"], offer["secs"], offer["limit"])
        if guard.load().get("try"):
            machine.reset()
        self._settle_trial()  # the same files run already

    def _stage(self, offer):
        name, tree = offer["name"], offer["tree"]
        if guard.is_there(name):
            return
        self.phase = "fetching"
        yield from self._report()
        guard.make("/apps")
        guard.prune([name + ".tmp"])
        guard.make_room(offer["size"] + offer["listed"] + 64 * 1024, [name + ".tmp"])
        block, _, _, free = os.statvfs("/")[:4]
        if block * free < offer["size"]:
            raise Failed("disk-full", "%d bytes are free, %d are needed" % (block * free, offer["size"]))
        if offer["listed"] > MAX_MANIFEST:
            raise Failed("bad-manifest", "a manifest of %d bytes, a Pico takes %d" % (offer["listed"], MAX_MANIFEST))
        data = bytearray()
        yield from self._fetch(tree, 0, offer["listed"], data.extend)
        if digest(data) != tree:
            raise Failed("digest-mismatch", "the manifest is not what was signed")
        try:
            entries = manifest(bytes(data), offer["size"])
        except (ValueError, TypeError, KeyError) as error:
            raise Failed("bad-manifest", str(error))
        tmp, here = "/apps/" + name + ".tmp", "/apps/" + guard.load().get("cur", "")
        guard.make(tmp)
        # Each file and folder takes whole blocks.
        need = sum(-(-size // block) * block if sha else 2 * block for _, size, sha in entries)
        need = need + 16 * block - _taken(tmp, block)
        if block * os.statvfs("/")[3] < need:
            guard.prune()
            raise Failed("disk-full", "%d bytes are free, %d are needed" % (block * os.statvfs("/")[3], need))
        for path, size, sha in entries:
            if sha is None:
                guard.make(tmp + "/" + path)
            else:
                yield from self._file(tmp + "/" + path, here + "/" + path, size, sha, offer["size"])
        os.rename(tmp, "/apps/" + name)

    def _file(self, path, old, size, sha, total):
        """One file: as it is here already, or from where it was cut off. What counts is what is read back."""
        for _ in range(3):
            if not guard.exists(path) and guard.exists(old) and os.stat(old)[6] == size:
                if guard.digest(old) == sha.hex():
                    with open(old, "rb") as source, open(path, "wb") as f:
                        while True:
                            part = source.read(1024)
                            if not part:
                                break
                            f.write(part)
                            yield
            at = os.stat(path)[6] if guard.exists(path) else 0
            if at <= size:
                with open(path, "ab") as f:
                    yield from self._fetch(sha, at, size, f.write, f.flush)
                yield
                if guard.digest(path) == sha.hex():
                    self.permille = min(999, self.permille + size * 1000 // max(1, total))
                    return
            os.remove(path)
        raise Failed("digest-mismatch", path.split("/", 3)[3] + " is not what was signed")

    def _fetch(self, sha, at, size, take, keep=None):
        """An object from `at` on, by questions on the bus; what does not answer is asked again."""
        silent = 0
        while at < size:
            want = cbor.encode({"digest": sha, "offset": at, "length": min(CHUNK, size - at)})
            self.chunk = None
            yield from self.bus.publish(self.topic + "chunk/want/" + self.node, want)
            self.fetched[1] += 1
            until = time.ticks_add(time.ticks_ms(), 3000)
            while self.chunk is None and time.ticks_diff(until, time.ticks_ms()) > 0:
                if not (yield from self.bus.turn()):
                    yield
            try:
                got = cbor.decode(self.chunk, memoryview)
                part, ours = got.get("bytes", b""), got.get("digest") == sha
            except (ValueError, TypeError, AttributeError):
                part, ours = b"", False
            if ours and got.get("error"):
                raise Failed("object-missing", "the store says %s to %s" % (got["error"], sha.hex()[:12]))
            if ours and got.get("offset") == at and 0 < len(part) <= min(CHUNK, size - at):
                take(part)
                at, silent = at + len(part), 0
                self.fetched[0] += len(part)
                if keep and at % KEEP_BYTES == 0:
                    keep()
                continue
            silent += 1
            if silent == 10:
                raise Failed("store-unreachable", "no answer to ten questions for " + sha.hex()[:12])

    def _end(self, offer, failed, began=None):
        """An order that ended before the switch; its verdict is stored and told."""
        took = time.ticks_diff(time.ticks_ms(), began) if began else 0
        outcome = self._outcome(offer, failed.verdict, failed.reason, failed.text, [], took)
        if failed.reason != "no-part":
            self.state["obeyed"] = max(self.state["obeyed"], offer["revision"])
        if offer["app"] != self.state["app"]:
            others = self.state["others"]
            if len(others) > 3 and offer["app"] not in others:
                others.pop(next(iter(others)))
            others[offer["app"]] = outcome
        else:
            self.state["outcomes"] = self.state["outcomes"][-3:] + [outcome]
        if "place" in offer:
            self.state["done"][offer["place"]] = offer["mark"]
        self.save()

    def _outcome(self, offer, verdict, reason, text, log, took):
        outcome = {"revision": offer["revision"], "release": offer["release"], "version": offer["version"]}
        outcome.update({"verdict": verdict, "reason": reason, "text": text, "log_tail": log, "took_ms": took})
        fetched = offer.get("fetched", self.fetched)
        outcome.update({"fetched_bytes": fetched[0], "requests": fetched[1], "at": self.now()})
        return outcome

    def _settle_trial(self):
        """How the trial went, once the guard knows; whether that is news."""
        state, offer = self.state, self.state["trying"]
        if not offer or guard.on_trial:
            self.phase = "trial" if offer else self.phase
            return False
        slots = guard.load()
        state["trying"], self.phase, self.permille = None, "idle", 0
        if slots.get("cur") == offer["name"]:
            back = state["previous"] and state["previous"]["name"] == offer["name"]
            if not state["installed"] or state["installed"]["name"] != offer["name"]:
                state["previous"] = state["installed"]
            state["installed"] = dict(offer)
            state["installed"]["since"] = self.now()
            floor = 0 if back else offer["min_counter"]
            state["counter_floor"] = max(state["counter_floor"], floor)
            outcome = self._outcome(offer, "kept", None, "", [], offer["took"])
        elif slots.get("bad") == offer["name"]:
            why = slots.get("why", "")
            crash = guard.crashed(offer["name"])
            reason = "bus-lost" if "back on the bus" in why else "exited" if crash else "tries-used-up"
            log = _read(guard.CRASH).decode().split("\n")[1:][-12:] if crash else []
            outcome = self._outcome(offer, "rolled_back", reason, why, log, offer["took"])
        else:
            self.save()  # cut between the two: the order comes again
            return True
        state["outcomes"] = state["outcomes"][-3:] + [outcome]
        if "place" in offer:
            state["done"][offer["place"]] = offer["mark"]
        self.save()
        return True

    def _installed(self, slot):
        if not slot:
            return None
        names = ("release", "version", "counter", "commit", "group")
        found = {name: slot[name] for name in names}
        found.update({"tree_hash": slot["tree"], "since": slot.get("since", 0)})
        return found

    def _apps(self):
        state, apps = self.state, []
        target = self.under_way or state["trying"]
        app, revision = state["app"], state["obeyed"]
        if target:
            app, revision = target["app"], max(revision, target["revision"])
        for other, outcome in state["others"].items():
            entry = {"app": other, "phase": "idle", "revision": outcome["revision"], "installed": None}
            entry.update({"previous": None, "target": None, "healthy": None, "outcomes": [outcome]})
            if not target or target["app"] != other:
                apps.append(entry)
        if app:
            if target:
                target = {"revision": target["revision"], "version": target["version"], "attempt": 1, "waits_for": ""}
                target["progress_permille"] = self.permille
            entry = {"app": app, "phase": self.phase, "revision": revision, "target": target}
            entry.update({"installed": self._installed(state["installed"]), "outcomes": state["outcomes"]})
            entry["previous"] = self._installed(state["previous"])
            entry["healthy"] = None if guard.on_trial else not guard.resting
            apps.append(entry)
        return apps

    def _report(self):
        """Says, signed, what is the case; and the same for people."""
        self.seq += 1
        head = {"spec": 1, "fleet": self.config["fleet"], "issued_at": self.now()}
        report = {"head": head, "node": self.node, "boot": self.state["boot"], "seq": self.seq}
        report.update({"root_version": self.trust.version, "clock_unset": not self.clock_set})
        report.update({"apps": self._apps(), "refusals": self.refusals})
        p = cbor.encode(report)
        from deploy_trust import key_id, signed_bytes

        if not hasattr(self, "secret"):
            self.secret = yield from ed25519.expand(bytes.fromhex(self.config["key"]))
            self.public = yield from ed25519.public(self.secret)
        signature = yield from ed25519.sign(self.secret, self.public, signed_bytes("report", p))
        envelope = cbor.encode({"p": p, "s": [[key_id(self.public), signature]]})
        yield from self.bus.publish(self.own + "report", envelope, True, 1)
        for app in report["apps"]:
            yield from self._mirror_app(app)

    def _mirror(self, topic, value):
        yield from self.bus.publish(self.own + topic, json.dumps(value).encode(), True)

    def _mirror_app(self, app):
        installed, previous, target = app["installed"], app["previous"], app["target"]
        last = app["outcomes"][-1] if app["outcomes"] else {}
        error = (last.get("reason") or "") + (": " + last["text"] if last.get("text") else "")
        begin, at = {"node": self.node, "app": app["app"]}, _stamp(self.now())
        version = {"installed": installed["version"] if installed else "", "at": at}
        version["previous"] = previous["version"] if previous else ""
        for key in ("group", "commit"):
            version[key] = installed[key] if installed else ""
        version["tree_hash"] = installed["tree_hash"].hex() if installed else ""
        version["since"] = _stamp(installed["since"] if installed else 0)
        version.update(begin)
        status = {"phase": app["phase"], "progress_ratio": self.permille / 1000, "strategy": "", "hold": ""}
        status.update({"target": target["version"] if target else "", "attempt": 1 if target else 0})
        status.update({"until": _stamp(0), "last_result": last.get("verdict", ""), "last_error": error, "at": at})
        status.update(begin)
        yield from self._mirror("app/" + app["app"] + "/version", version)
        yield from self._mirror("app/" + app["app"] + "/status", status)
        latest = target["version"] if target else version["installed"]
        update = {"installed_version": version["installed"], "latest_version": latest, "title": app["app"]}
        update.update({"release_summary": "", "in_progress": bool(target)})
        update["update_percentage"] = self.permille // 10 if target else None
        yield from self._mirror("app/" + app["app"] + "/update", update)

    def _info(self):
        info = {"node": self.node, "kind": "pico_w", "model": sys.implementation._machine, "via": "", "agent": AGENT}
        info.update({"serial": machine.unique_id().hex(), "groups": self.state["record"]["groups"]})
        info["at"] = _stamp(self.now())
        return info

    def _health(self):
        """The heartbeat."""
        gc.collect()
        slots, uptime = guard.load(), time.ticks_diff(time.ticks_ms(), self.started) // 1000
        block, _, _, free = os.statvfs("/")[:4]
        health = {"node": self.node, "uptime_s": uptime, "disk_free_bytes": block * free, "ok": not guard.resting}
        health["reason"] = guard.crashed(slots.get("cur", "")) or "" if guard.resting else ""
        health.update({"memory_free_bytes": gc.mem_free(), "started_at": _stamp(self.now() - uptime)})
        health.update({"release": slots.get("cur") or "", "previous": slots.get("prev") or ""})
        health.update({"trial": slots.get("try") or "", "bad": slots.get("bad") or "", "at": _stamp(self.now())})
        health["crash"] = guard.digest(guard.CRASH)[:12] if guard.exists(guard.CRASH) else ""
        if hasattr(self, "wlan"):
            health["rssi_dbm"] = self.wlan.status("rssi")
        return health


def start():
    """Called by the guard before it starts the app."""
    client = Client()
    guard.works.append(client.work)
    guard.ready.append(client.is_on_bus)
    until = time.ticks_add(time.ticks_ms(), FIRST_SECS * 1000)
    while not client.settled and time.ticks_diff(until, time.ticks_ms()) > 0:
        guard.alive()
        time.sleep_ms(2)
    client.app_runs = True
