"""One life of a Pico, from power to its end: `chip.py IMAGE CUT_AT TORN ACTION`, for MicroPython's unix port.

The flash is real littlefs in the file IMAGE. The power is cut at the flash write CUT_AT of the action (-1: never), in
the middle of it when TORN is 1. Its arguments are JSON in $PICO_ARGS, what it is to read comes on stdin. The last line
says how many writes there were.
"""

import json, os, sys

import flash
import machine, network  # before the flash is all there is

_REPO = os.getenv("PICO_REPO")


def _tree(folder, path=""):
    """All files of a folder of the host."""
    for name, kind, *_ in os.ilistdir(folder + path):
        if kind & 0x4000:
            yield from _tree(folder, path + "/" + name)
        else:
            with open(folder + path + "/" + name, "rb") as f:
                yield path + "/" + name, f.read()


def _provision(_folder):
    for folder in ("/lib", "/deploy"):
        os.mkdir(folder)
    for path, data in TREE:
        with open(path, "wb") as f:
            f.write(data)


def _look(release, need=0):
    """What the bridge does first: the helper is pasted, then its functions are called."""
    helper = {"__name__": "helper"}
    exec(HELPER, helper)
    helper["look"](release, need)
    return helper


def _install(release, files, secs):
    helper = _look(release)
    for path, size, sha in files:
        helper["put"](release, path, size, sha)
    helper["done"](release, 3, secs)


def _slots():
    with open("/deploy/slots") as f:
        print(f.read())


def _overwrite(release, files):
    """What tools for copying do: each file is replaced where it is."""
    for path, size, _ in files:
        with open("/apps/" + release + "/" + path, "wb") as f:
            while size:
                part = sys.stdin.buffer.read(min(size, 256))
                f.write(part)
                size -= len(part)


def _boot():
    try:
        with open("/main.py") as f:
            exec(f.read(), {"__name__": "__main__"})
    except KeyboardInterrupt:  # how the releases of these tests end
        pass


def _read():
    import hashlib

    def walk(path):
        for name, kind, *_ in os.ilistdir(path):
            if kind & 0x4000:
                walk(path + "/" + name)
            else:
                with open(path + "/" + name, "rb") as f:
                    found[path + "/" + name] = hashlib.sha256(f.read()).digest().hex()

    found = {}
    if "apps" in os.listdir("/"):
        walk("/apps")
    print(json.dumps(found))


_, image, cut_at, torn, action = sys.argv
with open(_REPO + "/pico-w/upload.py") as f:
    HELPER = f.read()
ARGS = json.loads(os.getenv("PICO_ARGS"))
TREE = list(_tree(ARGS[0])) if action == "provision" else []
chip = flash.mount(image)
sys.path[:] = ["", ".frozen", "/lib"]
chip.torn = torn == "1"
chip.cut_at = int(cut_at)
ACTIONS = {"provision": _provision, "look": _look, "slots": _slots, "install": _install}
ACTIONS.update({"overwrite": _overwrite, "boot": _boot, "read": _read})
ACTIONS[action](*ARGS)
print("ops", chip.ops)
