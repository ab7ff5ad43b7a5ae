"""What the boot ROM and `_boot.py` are on a Pico: the flash becomes the only file system, then boot.py and main.py run."""

import os, sys

_port = sys


def _version(says):
    """As in `MicroPython v1.28.0 on …`; that of the unix port, where it is no number."""
    try:
        return tuple(int(part) for part in says.split()[1][1:].split("."))
    except ValueError:
        return _port.implementation.version


class _Implementation:
    name = "micropython"
    version = _version(os.getenv("PICO_SAYS"))
    _machine = "Raspberry Pi Pico W with RP2040"
    _mpy = _port.implementation._mpy


class _Sys:
    """What the chip says that it is; its version is that of the firmware in its flash. All else is the unix port's."""

    platform = "rp2"
    implementation = _Implementation()
    version = _port.version.split("; ")[0] + "; " + os.getenv("PICO_SAYS")

    def __getattr__(self, name):
        return getattr(_port, name)


sys.modules["sys"] = sys = _Sys()

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
