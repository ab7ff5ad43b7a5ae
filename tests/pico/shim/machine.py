"""What the unix port lacks of an RP2040's `machine`: state is kept in files of the folder $PICO_STATE.

`wdt` holds the watchdog's timeout, its mtime is the last feeding; `exit` says why the interpreter ended. Whoever started
the interpreter is the rest of the chip: it ends an interpreter whose watchdog starves, and starts the next one.
"""

import os
import time

PWRON_RESET = 1
WDT_RESET = 3


# Opened now: later the flash may be the only file system.
_files = {name: open(os.getenv("PICO_STATE") + "/" + name, "w") for name in ("exit", "wdt")}


def _put(name, text):
    file = _files[name]
    file.seek(0)
    file.write(text)
    file.flush()


def _end(why):
    _put("exit", why)
    os.system("kill -9 $PPID")


def unique_id():
    return bytes.fromhex(os.getenv("PICO_UID") or "e6614103e7452b2f")


def reset_cause():
    return int(os.getenv("PICO_CAUSE") or PWRON_RESET)


def reset():
    _end("reset")


if not os.getenv("PICO_STUBBORN"):

    def bootloader(_timeout=0):
        _end("bootsel")


if os.getenv("PICO_RTC"):

    class RTC:
        """A clock that was never set. Here it cannot be: the host's goes on."""

        def datetime(self, parts):
            year, month, day, weekday, hour, minute, second, _ = parts
            time.mktime((year, month, day, hour, minute, second, weekday, 0))
            print("clock", parts)


class WDT:
    def __init__(self, id=0, timeout=5000):
        if not 1 <= timeout <= 8388:
            raise ValueError("timeout exceeds 8388")
        self._timeout = str(timeout)
        self._fed = time.ticks_add(time.ticks_ms(), -1000)
        self.feed()

    def feed(self):
        # Not more often than a disk likes it.
        if time.ticks_diff(time.ticks_ms(), self._fed) > 100:
            self._fed = time.ticks_ms()
            _put("wdt", self._timeout)
