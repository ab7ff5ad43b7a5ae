"""Decides at each boot which release runs, and goes back to the one before when a new one does not live.

/deploy/slots is the one truth: `cur` runs; `prev` ran before it; `try` is on trial, may start `left` more times, must live
`secs` seconds and be where it should be within `limit`; `bad` is the last one that did not, and `why`. It is replaced by a
rename, which littlefs does as a whole or not at all. A boot without a trial writes nothing.
"""

import hashlib, io, json, machine, os, sys, time

SLOTS = "/deploy/slots"
CRASH = "/deploy/crash"
DOG_MS = 8000
REST_SECS = 30  # after a crash: time for the bridge, or for the client, to bring something better
works = []  # done at every sign of life: the client over Wi-Fi
ready = []  # all of them must say yes before a trial ends well
on_trial = resting = False
_dog = _ends = None
_limit_ms = 0


def start_dog():
    global _dog
    _dog = machine.WDT(timeout=DOG_MS)


def feed():
    if _dog:
        _dog.feed()


def load():
    try:
        with open(SLOTS) as f:
            return json.load(f)
    except (OSError, ValueError):
        return {}


def save(slots):
    with open(SLOTS + ".new", "w") as f:
        json.dump(slots, f)
    os.rename(SLOTS + ".new", SLOTS)


def say(state, **more):
    """One line for whoever listens on USB."""
    more["state"] = state
    print("@deploybus " + json.dumps(more))


def exists(path):
    try:
        os.stat(path)
        return True
    except OSError:
        return False


def is_there(release):
    return bool(release) and exists("/apps/" + release)


def make(path):
    """The folder and those that it is in."""
    at = 0
    while at >= 0:
        at = path.find("/", at + 1)
        part = path if at < 0 else path[:at]
        if not exists(part):
            os.mkdir(part)


def digest(path):
    sha, buf = hashlib.sha256(), bytearray(1024)
    with open(path, "rb") as f:
        while True:
            n = f.readinto(buf)
            if not n:
                return sha.digest().hex()
            feed()
            sha.update(memoryview(buf)[:n])


def _remove(path):
    for name, kind, *_ in os.ilistdir(path):
        feed()
        if kind & 0x4000:
            _remove(path + "/" + name)
        else:
            os.remove(path + "/" + name)
    os.rmdir(path)


def _discard(release):
    """Removes a release that slots may still name: its name goes first, for it says that the release is complete."""
    os.rename("/apps/" + release, "/apps/" + release + ".old")
    _remove("/apps/" + release + ".old")


def prune(keep=()):
    """Removes releases that nothing names. A name without .old or .tmp is a complete release, always."""
    slots = load()
    keep = [slots.get(key) for key in ("cur", "prev", "try")] + list(keep)
    for name in os.listdir("/apps") if exists("/apps") else ():
        if name not in keep:
            if name.endswith((".old", ".tmp")):
                _remove("/apps/" + name)
            else:
                _discard(name)


def make_room(need, keep=()):
    """Room for so many bytes; what ran before the present release goes if it must."""
    block, _, _, free = os.statvfs("/")[:4]
    if block * free < need:
        slots = load()
        prev = slots.pop("prev", None)
        if prev:
            # First: there may be no room for the slots file before. A name of what is gone is nothing to go back to.
            if is_there(prev):
                _discard(prev)
            save(slots)
            prune(keep)


def stage(release, tries=3, secs=10, limit=120):
    """Puts a complete release on trial from the next boot on."""
    slots = load()
    for key in ("try", "left", "secs", "limit", "bad", "why"):
        slots.pop(key, None)
    try:
        os.remove(CRASH)
    except OSError:
        pass
    if release != slots.get("cur"):
        slots.update({"try": release, "left": tries, "secs": secs, "limit": limit})
    save(slots)


def select():
    """The release to run, and whether it is on trial. Counts the try before it is made."""
    slots = load()
    trying = slots.get("try")
    if trying and slots.get("left", 0) > 0 and is_there(trying):
        slots["left"] -= 1
        try:
            save(slots)
            return trying, True
        except OSError:  # the flash is full: a try that cannot be counted is not made
            _discard(trying)
    if trying:
        _end_trial(slots, crashed(trying) or "gave no sign of life in its trial")
    for key in ("cur", "prev"):
        if is_there(slots.get(key)):
            return slots[key], False
    return None, False


def _end_trial(slots, why):
    slots.update({"bad": slots["try"], "why": why})
    for key in ("try", "left", "secs", "limit"):
        slots.pop(key, None)
    save(slots)
    say("rolled_back", release=slots["bad"], why=why)


def confirm():
    """The release on trial is the one that runs from now on."""
    global on_trial, _ends
    on_trial, _ends = False, None
    slots = load()
    if "try" in slots:
        slots["prev"], slots["cur"] = slots.get("cur"), slots["try"]
        for key in ("try", "left", "secs", "limit", "bad", "why"):
            slots.pop(key, None)
        save(slots)
        say("kept", release=slots["cur"])


def alive():
    """For the app's loop, at least every few seconds: feeds the watchdog, ends a trial that went well."""
    feed()
    for work in works:
        work()
    late = time.ticks_diff(time.ticks_ms(), _ends) if _ends else -1
    if late >= 0 and all(is_so() for is_so in ready):
        confirm()
    elif late >= _limit_ms:
        _keep_crash(load().get("try", "") + "\nwas not back on the bus")
        machine.reset()


def live(secs=None):
    """Stays alive without an app, for good or for so long."""
    began = time.ticks_ms()
    while secs is None or time.ticks_diff(time.ticks_ms(), began) < secs * 1000:
        alive()
        time.sleep_ms(20)


def crashed(release):
    """What the last crash was about, if it was one of this release."""
    try:
        with open(CRASH) as f:
            lines = f.read().strip().split("\n")
        return lines[-1][:200] if lines[0] == release else None
    except OSError:
        return None


def _note(release, error):
    text = io.StringIO()
    sys.print_exception(error, text)
    _keep_crash(release + "\n" + text.getvalue()[-2000:])


def _keep_crash(text):
    try:
        with open(CRASH) as f:
            known = f.read() == text
    except OSError:
        known = False
    if not known:  # or a loop of crashes would wear the flash out
        with open(CRASH, "w") as f:
            f.write(text)


def run():
    global on_trial, resting, _ends, _limit_ms
    release, on_trial = select()
    if release is None and not exists("/deploy/config.json"):
        return say("empty")  # nothing would feed the dog, and people may be at the prompt
    start_dog()
    if exists("/deploy/config.json"):
        try:
            import deploy_client

            deploy_client.start()
        except Exception as error:  # whatever is wrong with the client, the app runs; it is not kept
            say("no_client", why=repr(error))
            ready.append(lambda: False)
    if release is None:
        say("empty")
        return live() if works else None
    say("trial" if on_trial else "run", release=release)
    if on_trial:
        slots = load()
        _ends = time.ticks_add(time.ticks_ms(), slots.get("secs", 10) * 1000)
        _limit_ms = max(0, slots.get("limit", 120) - slots.get("secs", 10)) * 1000
    os.chdir("/apps/" + release)
    sys.path.insert(0, "/apps/" + release)
    try:
        __import__("main")
        live()  # an app of timers and interrupts has no loop
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        resting, _ends = True, None
        _note(release, error)
        say("crash", release=release, why=repr(error))
        live(0 if on_trial else REST_SECS)
        machine.reset()
