# Everything here needs make and Python 3.11 or later, no root, and works from any directory (make -C).
#
#   make demo      the whole system on this machine, ends by itself
#   make test      every test
#   make check     formatting, lint, types
#   make bench     measure, and write docs/performance.md
#   make interop   against a real Ockam peer: $OCKAM_PEER, or one built here with cargo
#   make qemu      Bluetooth LE on a real kernel and bluetoothd, in a machine of its own; writes docs/ble-tiers.md
#   make clean     remove what these made
#
# PYTHON names another interpreter, VENV another place for what is installed,
# PYTEST_ARGS more arguments: make test PYTEST_ARGS='-k portal'; QEMU_ARGS the same of make qemu.

NEW_ENOUGH := import sys; sys.exit(sys.version_info < (3, 11))
PYTHON ?= $(shell for p in python3 python3.14 python3.13 python3.12 python3.11; do \
	"$$p" -c '$(NEW_ENOUGH)' 2>/dev/null && { echo "$$p"; exit; }; done; echo python3)
VENV ?= .venv
PYTEST_ARGS ?=
QEMU_ARGS ?= --markdown docs/ble-tiers.md

PY := $(VENV)/bin/python
STAMP := $(VENV)/.installed
PEER := tests/interop/rust-peer
PEER_TARGET := $(abspath $(or $(CARGO_TARGET_DIR),$(PEER)/target))

.PHONY: demo test check check-format check-lint check-types bench interop qemu install clean
.DEFAULT_GOAL := test

install: $(STAMP)

demo: $(STAMP)
	$(VENV)/bin/ockamlite demo

test: $(STAMP)
	$(PY) -m pytest $(PYTEST_ARGS)

check: check-format check-lint check-types

check-format: $(STAMP)
	$(PY) -m ruff format --check .

check-lint: $(STAMP)
	$(PY) -m ruff check .

check-types: $(STAMP)
	$(PY) -m mypy

bench: $(STAMP)
	$(PY) -m benchmarks --markdown docs/performance.md

ifdef OCKAM_PEER
interop: $(STAMP)
	@test -x "$(OCKAM_PEER)" || { echo "OCKAM_PEER=$(OCKAM_PEER) cannot be run" >&2; exit 1; }
	$(PY) -m pytest tests/interop $(PYTEST_ARGS)
else
interop: export OCKAM_PEER = $(PEER_TARGET)/release/ockam-peer
interop: $(STAMP)
	@cargo --version >/dev/null 2>&1 || { echo "no cargo to build the Rust peer with; try:" \
		"https://rustup.rs, or OCKAM_PEER=BINARY make interop" >&2; exit 1; }
	cargo build --release --locked --manifest-path $(PEER)/Cargo.toml --target-dir "$(PEER_TARGET)"
	$(PY) -m pytest tests/interop $(PYTEST_ARGS)
endif

qemu: $(STAMP)
	$(PY) -m pip install --quiet --disable-pip-version-check --editable '.[dev,bumble]'
	$(PY) -m tests.ble.qemu $(QEMU_ARGS)

# Installed again when pyproject.toml changed, and only then: the packages are used where they stand.
$(STAMP): pyproject.toml
	@"$(PYTHON)" -c '$(NEW_ENOUGH)' || { \
		echo "$(PYTHON) is not Python 3.11 or later; try: make PYTHON=python3.11" >&2; exit 1; }
	@"$(PYTHON)" -c 'import ensurepip, venv' 2>/dev/null || { \
		echo "$(PYTHON) cannot make virtual environments; try: apt install" \
			"$$("$(PYTHON)" -c 'import sys; print("python%d.%d-venv" % sys.version_info[:2])')" >&2; exit 1; }
	"$(PYTHON)" -m venv "$(VENV)"
	$(PY) -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch "$@"

clean:
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis build/qemu tests/interop/rust-peer/target
