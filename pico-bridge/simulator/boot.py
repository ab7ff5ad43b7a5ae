"""What the boot ROM and `_boot.py` are on a Pico: the flash becomes the only file system, then boot.py and main.py run."""

import os, sys

import flash
import machine  # noqa: F401, before the flash is all there is

flash.BLOCKS = int(os.getenv("PICO_BLOCKS") or flash.BLOCKS)
flash.mount(os.getenv("PICO_STATE") + "/flash")
sys.path[:] = ["", ".frozen", "/lib"]


def _run(name):
    """Whether what comes after it is to run."""
    try:
        os.stat(name)
    except OSError:
        return True
    try:
        with open(name) as f:
            exec(compile(f.read(), name, "exec"), {"__name__": "__main__"})
        return True
    except SystemExit:
        return False
    except BaseException as error:
        sys.print_exception(error)
        return False


print("\x06", end="")  # from here on it is a Pico that speaks
if _run("/boot.py") and os.getenv("PICO_RAW") != "1":
    _run("/main.py")
