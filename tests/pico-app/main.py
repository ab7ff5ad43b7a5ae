"""What a Pico runs: it says its version, and lives."""

import time

import deploy_guard

VERSION = "1.0.0"

print("app", VERSION)
while True:
    deploy_guard.alive()
    time.sleep_ms(20)
