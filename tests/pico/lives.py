"""What the guard and the upload helper do in one story: `lives.py FOLDER STORY`; ends with 0 when it went as told."""

import json
import sys

import pico

END = b"import deploy_guard\nfor _ in range(3):\n    deploy_guard.alive()\nraise KeyboardInterrupt\n"
CRASH = b"import deploy_guard\n\ndef read():\n    raise ValueError('no sensor')\n\nread()\n"
HANG = b"while True:\n    pass\n"
# An app of timers: its main ends, and the guard lives on. The test ends it.
TIMERS = b"""import deploy_guard, time
began = time.ticks_ms()
def stop():
    if time.ticks_diff(time.ticks_ms(), began) > 100:
        raise KeyboardInterrupt
deploy_guard.works.append(stop)
"""
# What was kept crashes later: the guard rests, alive, before the next try.
LATER = b"""import deploy_guard, time
deploy_guard.REST_SECS = 0.2
deploy_guard.alive()
deploy_guard.works.append(lambda: print('alive'))
raise ValueError('worn out')
"""


def states(lines):
    return [(line["state"], line.get("release")) for line in lines]


def chip_with_v1():
    chip = pico.Pico(pico.work_folder())
    chip.install("v1", {"main.py": END})
    assert states(chip.settle()) == [("trial", "v1"), ("kept", "v1")]
    return chip


def slots(chip):
    return json.loads(chip.live("slots")[0].splitlines()[0])


def a_normal_boot_writes_nothing():
    said, _ = chip_with_v1().live("boot")
    assert said.splitlines()[-1] == "ops 0", said


def what_crashes_three_times_is_rolled_back():
    chip = chip_with_v1()
    chip.install("v2", {"main.py": CRASH})
    lines = chip.settle()
    assert states(lines) == [("trial", "v2"), ("crash", "v2")] * 3 + [("rolled_back", "v2"), ("run", "v1")], lines
    assert lines[-2]["why"] == "ValueError: no sensor", lines
    assert slots(chip) == {"cur": "v1", "prev": None, "bad": "v2", "why": "ValueError: no sensor"}, slots(chip)


def what_hangs_is_rolled_back():
    chip = chip_with_v1()
    chip.install("v2", {"main.py": HANG})
    lines = chip.settle()
    assert states(lines) == [("trial", "v2")] * 3 + [("rolled_back", "v2"), ("run", "v1")], lines
    assert "no sign of life" in lines[-2]["why"], lines


def what_is_no_code_is_rolled_back():
    chip = chip_with_v1()
    chip.install("v2", {"main.py": b"def (:"})
    assert states(chip.settle())[-2:] == [("rolled_back", "v2"), ("run", "v1")]
    chip.install("v3", {"readme.txt": b"no main"})
    assert states(chip.settle())[-2:] == [("rolled_back", "v3"), ("run", "v1")]


def a_rolled_back_release_may_be_tried_again():
    chip = chip_with_v1()
    for _ in range(2):
        chip.install("v2", {"main.py": HANG})
        assert states(chip.settle())[-1] == ("run", "v1")
    chip.install("v3", {"main.py": END})
    assert states(chip.settle())[-1] == ("kept", "v3")
    assert slots(chip) == {"cur": "v3", "prev": "v1"}, slots(chip)


def an_app_of_timers_lives_and_is_kept():
    chip = chip_with_v1()
    chip.install("v2", {"main.py": TIMERS})
    assert states(chip.settle()) == [("trial", "v2"), ("kept", "v2")]


def what_was_kept_and_crashes_leaves_time_to_reach_it():
    chip = chip_with_v1()
    chip.install("v2", {"main.py": LATER})
    said, why = chip.live("boot")
    assert why == "reset" and '"kept"' in said and '"crash"' in said and said.count("alive") > 3, said
    first = chip.image.read_bytes()
    assert chip.live("boot")[1] == "reset"
    assert chip.image.read_bytes() == first, "each crash wears the flash out"


def an_upload_that_is_cut_goes_on_where_it_was():
    chip = chip_with_v1()
    files = {"a.py": b"a" * 3000, "main.py": END, "z.py": b"z" * 5000}
    listing = [(path, len(data), pico.sha256(data)) for path, data in files.items()]
    whole = b"".join(files.values())
    said, why = chip.live("install", ("v2", listing, 0), stdin=whole[:-2000])
    assert why == "wdt", (why, said)
    assert states(chip.settle()) == [("run", "v1")]
    here = json.loads(chip.live("look", ["v2"])[0].splitlines()[0])["here"]
    assert here["a.py"] == listing[0][2] and here["main.py"] == listing[1][2], here
    assert here.get("z.py") != listing[2][2], here
    chip.live("install", ("v2", listing[2:], 0), stdin=files["z.py"])
    assert chip.is_whole("v2", files)
    assert states(chip.settle())[-1] == ("kept", "v2")


def what_came_wrong_is_not_kept():
    chip = chip_with_v1()
    said, _ = chip.live("install", ("v2", [("main.py", 4, pico.sha256(b"good"))], 0), stdin=b"evil")
    assert pico.sha256(b"evil") in said and not chip.is_whole("v2", {"main.py": b"evil"}), said


def what_ran_before_goes_when_room_is_needed():
    chip = chip_with_v1()
    chip.install("v2", {"main.py": END, "big.bin": b"2" * 300_000})
    chip.settle()
    chip.install("v3", {"main.py": END, "big.bin": b"3" * 300_000})
    chip.settle()
    said, _ = chip.live("look", ["v4", 400_000])
    assert json.loads(said.splitlines()[0])["free"] > 400_000, said
    assert slots(chip) == {"cur": "v3"} and chip.settle()[-1] == {"state": "run", "release": "v3"}


if __name__ == "__main__":
    globals()[sys.argv[2]]()
