# make demo     the whole job on handwritten digits, or on yours: make demo DATA=~/pictures
# make device-test-tools   sshd, adb, qemu, busybox, strace and mosquitto for tests; asks for root
# make test     lint, types and tests, also with the oldest onnxruntime that a device may have
# make test-real   the long forms of tests: whole networks, five seeds, real weights, int8, arm64
# make soak     the long tests of docs/reliability.md's promises: half an hour, and a table
# make fuzz     fuzzing of every reader of files from elsewhere: make fuzz FUZZ_SECONDS=600; needs
#               Python 3.11 on Linux x86-64: make fuzz FUZZ_PYTHON=/usr/bin/python3.11
# make bench    the figures of docs/performance.md
# make lock     the device's packages with their hashes, anew (after a change of constraints.txt)
# make clean    remove what these made

PYTHON ?= python3
DATA ?= digits
VENV := .venv
DEVICE := .venv-device
OLD := .venv-old-runtime
FUZZ := .venv-fuzz
FUZZ_PYTHON ?= python3.11
FUZZ_SECONDS ?= 60
# The last one for Python 3.10.
OLD_RUNTIME := 1.23.2
SUDO := $(shell [ "$$(id -u)" = 0 ] || echo sudo)
# More for pytest: make test PYTEST_ARGS=--durations=30
PYTEST_ARGS ?=
PIP := -m pip install --quiet --disable-pip-version-check --constraint constraints.txt
SETUP := pyproject.toml constraints.txt
# Before anything else, with words that an old Python understands too.
CHECK_PYTHON = @$(PYTHON) -c 'import sys; sys.version_info >= (3, 10) or sys.exit("TOD needs \
Python 3.10 or newer, $(PYTHON) is " + sys.version.split()[0] + ": make ... PYTHON=python3.12")'

.PHONY: demo device-test-tools test test-real test-all-networks test-old-runtime lint types soak fuzz bench lock clean

demo: $(VENV)/demo-ready
	PATH="$(CURDIR)/$(VENV)/bin:$$PATH" sh scripts/demo.sh "$(DATA)"

# What stands for a board, a phone and another processor; without it those tests are skipped. On a
# machine with systemd, Debian's package also starts its ssh server.
DEVICE_TEST_TOOLS := openssh-server adb qemu-user-static busybox-static shellcheck strace mosquitto openssl
device-test-tools:
	PATH="$$PATH:/usr/sbin"; for tool in sshd adb qemu-aarch64-static busybox shellcheck \
	  strace mosquitto openssl; do \
	  command -v $$tool >/dev/null || missing=yes; done; [ -z "$$missing" ] || { \
	  $(SUDO) apt-get update --quiet && \
	  $(SUDO) apt-get install --quiet --yes --no-install-recommends $(DEVICE_TEST_TOOLS); }

test: lint types $(DEVICE)/ready $(OLD)/ready
	$(VENV)/bin/python -m pytest $(PYTEST_ARGS)

test-real: $(VENV)/test-ready $(DEVICE)/ready $(OLD)/ready
	$(VENV)/bin/python -m pytest -m long $(PYTEST_ARGS)

test-all-networks: test-real

test-old-runtime: $(VENV)/test-ready $(OLD)/ready
	$(VENV)/bin/python -m pytest tests/device/test_old_runtime.py

lint: $(VENV)/test-ready
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .

types: $(VENV)/test-ready
	$(VENV)/bin/mypy

soak: $(VENV)/soak-ready
	TOD_SOAK=1 $(VENV)/bin/python -m pytest -m promise $(PYTEST_ARGS)

fuzz: $(FUZZ)/ready
	for target in $$($(FUZZ)/bin/python -c 'from tests.fuzz.targets import TARGETS; print(*TARGETS)'); do \
	  $(FUZZ)/bin/python -m tests.fuzz $$target $(FUZZ_SECONDS) || exit 1; done

bench: $(VENV)/test-ready
	$(VENV)/bin/python -m benchmarks

lock:
	$(PYTHON) -m venv build/lock
	build/lock/bin/python -m pip install --quiet uv==0.13.8
	build/lock/bin/uv pip compile pyproject.toml --universal --python-version 3.10 --quiet \
	  --constraint constraints.txt --generate-hashes --no-annotate --no-header \
	  --no-emit-package colorama --output-file package_tools/requirements.txt

clean:
	rm -rf $(VENV) $(DEVICE) $(OLD) $(FUZZ) build *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis

$(VENV)/demo-ready: $(SETUP)
	$(CHECK_PYTHON)
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python $(PIP) --editable '.[workstation,demo]'
	touch $@

# The fuzzer has wheels for Python 3.11 on Linux x86-64 only; elsewhere the soak does without.
$(VENV)/soak-ready: $(VENV)/test-ready
	$(VENV)/bin/python $(PIP) --editable '.[fuzz]'
	touch $@

$(VENV)/test-ready: $(SETUP)
	$(CHECK_PYTHON)
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python $(PIP) --editable '.[workstation,convert,demo,dev]'
	touch $@ $(VENV)/demo-ready

# What a device has: the base dependencies and nothing else.
$(DEVICE)/ready: $(SETUP)
	$(CHECK_PYTHON)
	$(PYTHON) -m venv $(DEVICE)
	$(DEVICE)/bin/python $(PIP) --editable .
	touch $@

$(FUZZ)/ready: $(SETUP)
	$(FUZZ_PYTHON) -m venv $(FUZZ)
	$(FUZZ)/bin/python $(PIP) --editable '.[fuzz]'
	touch $@

$(OLD)/ready: $(SETUP)
	$(CHECK_PYTHON)
	$(PYTHON) -m venv $(OLD)
	grep -v '^onnxruntime' constraints.txt > $(OLD)/constraints.txt
	$(OLD)/bin/python -m pip install --quiet --disable-pip-version-check \
	  --constraint $(OLD)/constraints.txt --editable . onnxruntime==$(OLD_RUNTIME)
	touch $@
