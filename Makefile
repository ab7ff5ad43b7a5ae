# What people run. Every target works on a fresh Debian 12 machine with Rust 1.95.
.PHONY: demo demo-containers demo-picos test check bench fmt build needs tools soak

# The main job, all embedded: broker, three nodes, five releases. STAY=1 leaves it running and prints the addresses.
demo: build
	@cargo run --quiet --bin demo -- $(if $(STAY),--stay)

# The same for an app that is a container, on a Docker engine of its own; needs root.
demo-containers: tools build
	@cargo run --quiet --bin demo -- --containers

# The same for Picos, which are simulated: real MicroPython on pseudo-terminals.
demo-picos: needs tools
	@cargo build --bin broker --bin publisher --bin pi-worker --bin pico-bridge --bin demo-picos
	@cargo run --quiet --bin demo-picos

build: needs
	cargo build --bin broker --bin publisher --bin pi-worker --bin demo

# Said before anything is built.
needs:
	@missing=; for tool in cargo cc git python3; do command -v $$tool >/dev/null || missing="$$missing $$tool"; done; \
	[ -z "$$missing" ] || { echo "missing:$$missing; on Debian: sudo apt install gcc git python3, and cargo from https://rustup.rs" >&2; exit 1; }

# Every test; ends with `N passed, N failed`.
test: needs tools
	@tests/run

# Noise of every kind against a broker for SECONDS=60; SEED repeats a run.
soak:
	SECONDS=$(or $(SECONDS),60) cargo test --quiet --release --package broker --test it -- --nocapture soak

# What a change must pass before it is committed.
check: fmt
	cargo clippy --workspace --all-targets -- -D warnings
	$(MAKE) test

fmt:
	cargo fmt --all

# Figures beside those of Mosquitto, and as JSON lines in target/bench/. ONLY=fanout,storm measures some of them.
bench: tools
	cargo build --release --bin broker --bin publisher --bin pi-worker --bin pico-bridge --bin bench
	@cargo run --quiet --release --package e2e --bin bench -- $(if $(ONLY),--only $(ONLY))

# The real counterparts that tests talk to, from the distribution. Without root they are left out, and tests say so.
tools:
	@tests/tools
