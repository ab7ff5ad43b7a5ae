"""Decides at each boot which release runs, and goes back to the one before when a new one does not live.

/deploy/slots is the one truth: `cur` runs; `prev` ran before it; `try` is on trial, may start `left` more times and
must live `secs` seconds; `bad` is the last one that did not, and `why`. It is replaced by a rename, which littlefs does
as a whole or not at all. A boot without a trial writes nothing.
"""

import io, json, machine, os, sys, time

SLOTS = "/deploy/slots"
CRASH = "/deploy/crash"
DOG_MS = 8000
REST_SECS = 30  # after a crash: time for the bridge, or for the client, to bring something better
works = []  # done at every sign of life: the client over Wi-Fi
ready = []  # all of them must say yes before a trial ends well
_dog = _ends = None


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


def is_there(release):
    try:
        return bool(release) and os.stat("/apps/" + release)[0] & 0x4000 != 0
    except OSError:
        return False


def stage(release, tries=3, secs=10):
    """Puts a complete release on trial from the next boot on."""
    slots = load()
    for key in ("try", "left", "secs", "bad", "why"):
        slots.pop(key, None)
    try:
        os.remove(CRASH)
    except OSError:
        pass
    if release != slots.get("cur"):
        slots.update({"try": release, "left": tries, "secs": secs})
    save(slots)


def select():
    """The release to run, and whether it is on trial. Counts the try before it is made."""
    slots = load()
    trying = slots.get("try")
    if trying and slots.get("left", 0) > 0 and is_there(trying):
        slots["left"] -= 1
        save(slots)
        return trying, True
    if trying:
        _end_trial(slots, crashed(trying) or "gave no sign of life in its trial")
    for key in ("cur", "prev"):
        if is_there(slots.get(key)):
            return slots[key], False
    return None, False


def _end_trial(slots, why):
    slots.update({"bad": slots["try"], "why": why})
    for key in ("try", "left", "secs"):
        slots.pop(key, None)
    save(slots)
    say("rolled_back", release=slots["bad"], why=why)


def confirm():
    """The release on trial is the one that runs from now on."""
    global _ends
    _ends = None
    slots = load()
    if "try" in slots:
        slots["prev"], slots["cur"] = slots.get("cur"), slots["try"]
        for key in ("try", "left", "secs", "bad", "why"):
            slots.pop(key, None)
        save(slots)
        say("kept", release=slots["cur"])


def alive():
    """For the app's loop, at least every few seconds: feeds the watchdog, ends a trial that went well."""
    if _dog:
        _dog.feed()
    for work in works:
        work()
    if _ends and time.ticks_diff(time.ticks_ms(), _ends) >= 0 and all(is_so() for is_so in ready):
        confirm()


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
    text = release + "\n" + text.getvalue()[-2000:]
    try:
        with open(CRASH) as f:
            known = f.read() == text
    except OSError:
        known = False
    if not known:  # or a loop of crashes would wear the flash out
        with open(CRASH, "w") as f:
            f.write(text)


def run():
    global _dog, _ends
    release, trial = select()
    _dog = machine.WDT(timeout=DOG_MS)
    try:
        import deploy_client
    except ImportError:
        if release is None:
            return say("empty")
    else:
        deploy_client.start()
    if release is None:
        live()
    say("trial" if trial else "run", release=release)
    if trial:
        _ends = time.ticks_add(time.ticks_ms(), load().get("secs", 10) * 1000)
    os.chdir("/apps/" + release)
    sys.path.insert(0, "/apps/" + release)
    try:
        __import__("main")
        live()  # an app of timers and interrupts has no loop
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        rest, _ends = 0 if _ends else REST_SECS, None
        _note(release, error)
        say("crash", release=release, why=repr(error))
        live(rest)
        machine.reset()
