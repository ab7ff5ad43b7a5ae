"""The Picos' half: it lives."""

import time

import deploy_guard

VERSION = "1.0.0"

print("lamp", VERSION)
while True:
    deploy_guard.alive()
    time.sleep_ms(20)
