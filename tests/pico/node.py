"""A Pico W that lives until it is ended: `node.py FOLDER TREE`. TREE is what lies on its flash at first, if it is new.

Its lives follow each other as on a Pico: a reset or a watchdog that starved begins the next one.
"""

import sys
from pathlib import Path

import pico

folder = Path(sys.argv[1])
if (folder / "flash").exists():
    chip = pico.Pico.found(folder)
else:
    chip = pico.Pico(folder, sys.argv[2])
print("pico ready", flush=True)
while True:
    _, why = chip.live("boot", live=True)
    print("ended:", why, flush=True)
