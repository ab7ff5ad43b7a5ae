"""A NOR flash in a file, as littlefs sees one: what is written is on it at once, or half of it when the power is cut."""

import os, vfs

BLOCK = 4096
PAGE = 256
ERASED = b"\xff" * BLOCK  # made once: the heap of a Pico is small
BLOCKS = 212  # 848 KiB, what MicroPython keeps for files on a Pico W


class Flash:
    def __init__(self, path):
        self.ops = 0
        self.cut_at = -1
        self.torn = False
        try:
            self.f = open(path, "r+b")
        except OSError:
            with open(path, "wb") as f:
                for _ in range(BLOCKS):
                    f.write(ERASED)
            self.f = open(path, "r+b")

    def _write(self, at, data):
        if self.ops == self.cut_at:
            if self.torn:
                self.f.seek(at)
                self.f.write(memoryview(data)[: len(data) // 2])
                self.f.flush()
            os.system("kill -9 $PPID")
        self.ops += 1
        self.f.seek(at)
        self.f.write(data)
        self.f.flush()

    def readblocks(self, block, buf, off=0):
        self.f.seek(block * BLOCK + off)
        self.f.readinto(buf)

    def writeblocks(self, block, buf, off=0):
        self._write(block * BLOCK + off, buf)

    def ioctl(self, op, arg):
        if op == 4:
            return BLOCKS
        if op == 5:
            return BLOCK
        if op == 6:
            self._write(arg * BLOCK, ERASED)
        return 0


def mount(path):
    """Makes the flash in this file the only file system there is, formatted when it is new."""
    chip = Flash(path)
    try:
        fs = vfs.VfsLfs2(chip, progsize=PAGE)
    except OSError:
        vfs.VfsLfs2.mkfs(chip, progsize=PAGE)
        fs = vfs.VfsLfs2(chip, progsize=PAGE)
    vfs.umount("/")
    vfs.mount(fs, "/")
    os.chdir("/")
    return chip
