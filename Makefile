# make demo     the whole job on handwritten digits, or on yours: make demo DATA=~/pictures
# make test     lint, types and tests
# make bench    the figures of docs/performance.md
# make clean    remove what these made

PYTHON ?= python3
DATA ?= digits
VENV := .venv
DEVICE := .venv-device
PIP := -m pip install --quiet --disable-pip-version-check --constraint constraints.txt
SETUP := pyproject.toml constraints.txt

.PHONY: demo test lint types bench clean

demo: $(VENV)/demo-ready
	PATH="$(CURDIR)/$(VENV)/bin:$$PATH" sh scripts/demo.sh "$(DATA)"

test: lint types $(DEVICE)/ready
	$(VENV)/bin/python -m pytest

lint: $(VENV)/test-ready
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .

types: $(VENV)/test-ready
	$(VENV)/bin/mypy

bench: $(VENV)/test-ready
	$(VENV)/bin/python -m benchmarks

clean:
	rm -rf $(VENV) $(DEVICE) build *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis

$(VENV)/demo-ready: $(SETUP)
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python $(PIP) --editable '.[workstation,demo]'
	touch $@

$(VENV)/test-ready: $(SETUP)
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python $(PIP) --editable '.[workstation,demo,dev]'
	touch $@ $(VENV)/demo-ready

# What a device has: the base dependencies and nothing else.
$(DEVICE)/ready: $(SETUP)
	$(PYTHON) -m venv $(DEVICE)
	$(DEVICE)/bin/python $(PIP) --editable .
	touch $@
