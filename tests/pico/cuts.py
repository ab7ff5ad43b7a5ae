"""Cuts the power at every flash write of what happens to a release, clean and torn: `cuts.py FOLDER [clean|torn]`.

Prints one JSON object: per story how many cuts there were, how many were bad, and what ran afterwards.
"""

import collections
import itertools
import json
import sys

import pico

LOOP = b"import deploy_guard\nfor _ in range(3):\n    deploy_guard.alive()\nraise KeyboardInterrupt\n"
CRASH = b"import deploy_guard\nraise ValueError('no sensor')\n"


def content(release, main=LOOP):
    return {
        "main.py": main,
        "lib/x.py": (f"x = '{release}'\n" * 300).encode(),
        "data.bin": release.encode() * 1500,
    }


ZERO, ONE, TWO, THREE = (content(release) for release in ("v0", "v1", "v2", "v3"))
BAD = content("v2", CRASH)


def boot(chip, **cut):
    return chip.live("boot", **cut)[1]


def install(files):
    return lambda chip, **cut: chip.install("v2", files, **cut)[1]


def prune(chip, **cut):
    """The next release is asked about: what nothing names any more goes."""
    return chip.live("look", ["v9"], **cut)[1]


def overwrite(chip, **cut):
    """What tools for copying do, as a control: with them releases must be torn, or these tests could not fail."""
    return chip.overwrite("v1", TWO, **cut)[1]


def play(story, base, folder, torn, check):
    """Cuts the power at each write of each step, and checks what is there then."""
    seen, bad, cuts = collections.Counter(), [], 0
    before = base.copy(folder / "before")
    for number, step in enumerate(story):
        for write in itertools.count():
            chip = before.copy(folder / "chip")
            if step(chip, cut=write, torn=torn) != "cut":
                before = chip.copy(folder / "before")
                break
            cuts += 1
            try:
                seen[check(chip)] += 1
            except AssertionError as error:
                bad.append(f"step {number} write {write}: {error}")
    return {"cuts": cuts, "bad": len(bad), "after": dict(seen), "first_bad": bad[:3]}


def still_lives(other):
    """Some whole release runs, and the next one can be installed."""

    def check(chip):
        ran = [line["release"] for line in chip.settle() if line["state"] in ("run", "trial")][-1]
        assert chip.is_whole(ran, {"v1": ONE, "v2": other}[ran]), f"{ran} is torn"
        chip.install("v3", THREE)
        said = chip.settle()
        assert {"state": "kept", "release": "v3"} in said, said
        assert chip.is_whole("v3", THREE), "v3 is torn"
        return ran

    return check


def is_one_of_both(chip):
    assert chip.is_whole("v1", ONE) or chip.is_whole("v1", TWO), "torn"
    return "whole"


def main():
    folder, torn = pico.work_folder(), sys.argv[2] == "torn"
    base = pico.Pico(folder / "base")
    for release, files in (("v0", ZERO), ("v1", ONE)):
        base.install(release, files)
        base.settle()
    stories = {
        "kept": ([install(TWO), boot, prune], still_lives(TWO)),
        "rolled_back": ([install(BAD), boot, boot, boot, boot], still_lives(BAD)),
        "overwritten": ([overwrite], is_one_of_both),
    }
    results = {}
    for name, (story, check) in stories.items():
        results[name] = play(story, base, folder, torn, check)
    print(json.dumps(results))


main()
