"""Somebody at a terminal: `publisher watch`, in a pseudo terminal that changes its size. Arguments: the command. Each line of standard input
is something to be seen, which is said then; the terminal gets small, and in the end Ctrl-C is pressed. Prints the last picture of each size."""

import fcntl
import os
import pty
import select
import signal
import struct
import sys
import termios
import time

LIMIT_S = 30
ENTER, LEAVE = "\x1b[?1049h", "\x1b[?1049l"
BEGIN, END = "\x1b[?2026h\x1b[H", "\x1b[K\x1b[J\x1b[?2026l"


class Terminal:
    def __init__(self, command, rows, columns):
        self.said = ""
        self.child, self.fd = pty.fork()
        if self.child == 0:
            # The size is there before the command is.
            self.fd = 1
            self.resize(rows, columns)
            os.environ.update(TERM="xterm-256color")
            os.execvp(command[0], command)

    def resize(self, rows, columns):
        fcntl.ioctl(self.fd, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def read(self):
        """Whether there was something."""
        if not select.select([self.fd], [], [], 0.2)[0]:
            return True
        try:
            data = os.read(self.fd, 65536)
        except OSError:
            return False
        # The terminal adds its own returns.
        self.said += data.decode(errors="replace").replace("\r", "")
        return bool(data)

    def picture(self):
        frames = self.said.split(BEGIN)[1:]
        whole = [frame.split(END)[0] for frame in frames if END in frame]
        return whole[-1].split("\x1b[K\n") if whole else []

    def until(self, what, holds):
        end = time.monotonic() + LIMIT_S
        while not holds(self.picture()):
            if time.monotonic() > end or not self.read():
                sys.exit(f"waited in vain for {what}:\n" + "\n".join(self.picture()) + f"\n{self.said[-2000:]!r}")
        return self.picture()


def plain(line):
    parts = line.split("\x1b[")
    return parts[0] + "".join(part.partition("m")[2] for part in parts[1:])


def main():
    terminal = Terminal(sys.argv[1:], 24, 100)
    for wanted in sys.stdin.read().splitlines():
        terminal.until(wanted, lambda lines: any(wanted in plain(line) for line in lines))
        print(f"seen: {wanted}", flush=True)
    print("\n".join(plain(line) for line in terminal.picture()), end="\n\n")
    terminal.said = ENTER
    terminal.resize(8, 40)
    small = terminal.until("a small picture", lambda lines: 0 < len(lines) <= 8)
    assert all(len(plain(line)) <= 40 for line in small), small
    print("\n".join(plain(line) for line in small))
    os.kill(terminal.child, signal.SIGINT)
    while terminal.read():
        pass
    assert LEAVE in terminal.said and terminal.said.count(ENTER) == 1, terminal.said[-500:]
    _, status = os.waitpid(terminal.child, 0)
    sys.exit(os.waitstatus_to_exitcode(status))


main()
