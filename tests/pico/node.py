"""A Pico W that lives until it is ended: `node.py FOLDER TREE`. TREE is what lies on its flash at first, if it is new.

Its lives follow each other as on a Pico: a reset or a watchdog that starved begins the next one. In the first one the
power is cut at the flash write $PICO_CUT, if that is set, in the middle of it.
"""

import os
import sys
from pathlib import Path

import pico

folder = Path(sys.argv[1])
if (folder / "flash").exists():
    chip = pico.Pico.found(folder)
else:
    chip = pico.Pico(folder, sys.argv[2])
print("pico ready", flush=True)
cut = int(os.environ.get("PICO_CUT", "-1"))
while True:
    _, why = chip.live("boot", cut=cut, torn=True, live=True)
    cut = -1
    print("ended:", why, flush=True)
