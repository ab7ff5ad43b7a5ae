"""A Pico that lives many lives: each is MicroPython's unix port in a process of its own, on one littlefs in a file."""

import hashlib
import json
import os
import shutil
import signal
import sys
import time
from pathlib import Path

import micropython_run

HERE = Path(__file__).resolve().parent
# A watchdog that bites so many times sooner: nobody waits eight seconds for each release that hangs.
HURRY = 3


class Pico:
    def __init__(self, folder, tree=HERE.parent.parent / "pico-w"):
        self.folder = Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.image = self.folder / "flash"
        self.image.unlink(missing_ok=True)
        self.live("provision", [str(tree)])

    @classmethod
    def found(cls, folder):
        """The Pico that lies in a folder already."""
        chip = object.__new__(cls)
        chip.folder = Path(folder)
        chip.folder.mkdir(parents=True, exist_ok=True)
        chip.image = chip.folder / "flash"
        return chip

    def copy(self, folder):
        """The same Pico once more, as it is now."""
        other = Pico.found(folder)
        shutil.copyfile(self.image, other.image)
        return other

    def live(self, action, args=(), cut=-1, torn=False, stdin=b"", live=False):
        """One life. What it printed, and how it ended: `done`, `cut`, `reset` or `wdt`. What a `live` one prints goes to
        our own output, and it may end as it likes."""
        # As a Pico has, for objects that are twice as large here.
        argv = ["micropython", "-X", "heapsize=256K", str(HERE / "chip.py"), str(self.image), str(cut), str(int(torn))]
        argv.append(action)
        (self.folder / "stdin").write_bytes(stdin)
        pid = os.fork()
        if pid == 0:
            self._run(argv, json.dumps(args), live)
        starved = self._wait(pid)
        if live:
            return "", "wdt" if starved else (self.folder / "exit").read_text() or "cut"
        said = (self.folder / "stdout").read_text()
        if said.splitlines()[-1:] and said.splitlines()[-1].startswith("ops "):
            return said, "done"
        why = "wdt" if starved else (self.folder / "exit").read_text() or "cut"
        if why == "cut" and cut < 0:
            raise AssertionError(f"{action} died: {said}")
        return said, why

    def _run(self, argv, args, live):
        for number, name, flags in ((0, "stdin", os.O_RDONLY), (1, "stdout", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)):
            if number == 0 or not live:
                os.dup2(os.open(self.folder / name, flags), number)
        os.dup2(1, 2)
        os.environ.update(PICO_ARGS=args, PICO_STATE=str(self.folder), PICO_REPO=str(HERE.parent.parent))
        os.environ["MICROPYPATH"] = str(HERE / "shim")
        micropython_run.run_main(argv)
        os._exit(0)

    def _wait(self, pid):
        """Ends it when its watchdog starves; whether it did."""
        (self.folder / "wdt").write_text("")
        while True:
            done, _ = os.waitpid(pid, os.WNOHANG)
            if done:
                return False
            wdt = self.folder / "wdt"
            try:
                text, fed = wdt.read_text(), wdt.stat().st_mtime
            except FileNotFoundError:
                text = ""
            if text and (time.time() - fed) * 1000 * HURRY > int(text):
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)
                return True
            time.sleep(0.002)

    def install(self, release, files, secs=0, **cut):
        """Brings a release as the bridge does."""
        listing = [(path, len(data), sha256(data)) for path, data in files.items()]
        return self.live("install", (release, listing, secs), stdin=b"".join(files.values()), **cut)

    def overwrite(self, release, files, **cut):
        """Replaces the files of a release where they are."""
        listing = [(path, len(data), "") for path, data in files.items()]
        return self.live("overwrite", (release, listing), stdin=b"".join(files.values()), **cut)

    def settle(self, boots=8):
        """Boots until an app has run to its end; the lines that the guard said in all these boots."""
        lines = []
        for _ in range(boots):
            said, why = self.live("boot")
            lines += [json.loads(line[11:]) for line in said.splitlines() if line.startswith("@deploybus ")]
            if why == "done":
                return lines
        raise AssertionError(f"does not come to rest: {lines}")

    def files(self):
        """All files below /apps with their digests."""
        said, _ = self.live("read")
        return json.loads(said.splitlines()[0])

    def is_whole(self, release, files):
        """Whether exactly these files are there."""
        begin = f"/apps/{release}/"
        found = {path[len(begin) :]: sha for path, sha in self.files().items() if path.startswith(begin)}
        return found == {path: sha256(data) for path, data in files.items()}


def sha256(data):
    """As the helper says it."""
    return hashlib.sha256(data).hexdigest()


def work_folder():
    """Where this run may write."""
    return Path(sys.argv[1])
