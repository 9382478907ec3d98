# `make demo` and `make test` do all the set-up first; nothing else is needed but Python 3.11+ and make.

PYTHON ?= python3
VENV ?= .venv
WORKSPACE ?= demo-workspace
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: help setup demo test lint wheel clean

help:
	@echo "make demo    the whole way, offline: topic -> data -> mixture -> trained model -> answer"
	@echo "make test    all tests"
	@echo "make lint    ruff and mypy"
	@echo "make wheel   build the wheel into dist/"

setup: $(READY)

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Python 3.11 or newer is needed; name one: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt torch==2.13.0
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[train,dev]'
	@touch $(READY)

demo: $(READY)
	$(BIN)/cambrian demo --workspace $(WORKSPACE)

test: $(READY)
	$(BIN)/python -m pytest

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

wheel: $(READY)
	$(BIN)/python -m pip wheel --quiet --no-deps --wheel-dir dist .

clean:
	rm -rf $(VENV) $(WORKSPACE) build dist
