# `make demo` and `make test` do all the set-up first; nothing else is needed but Python 3.11+ and make.

PYTHON ?= python3
VENV ?= .venv
WORKSPACE ?= demo-workspace
BIN := $(VENV)/bin
READY := $(VENV)/.ready

TPU_VENV ?= .venv-tpu
TPU_BIN := $(TPU_VENV)/bin
TPU_READY := $(TPU_VENV)/.ready
# What cambrian_model and cambrian_data.shards import beside torch; versions as in constraints.txt.
TPU_LIGHT := absl-py filelock fsspec jinja2 msgspec networkx numpy orjson pillow pyarrow pydantic pytest pytest-timeout \
  pyyaml requests safetensors sympy tokenizers transformers typing-extensions

.PHONY: help setup demo test test-tpu lint wheel clean

help:
	@echo "make demo    the whole way, offline: topic -> data -> mixture -> trained model -> answer"
	@echo "make test    all tests"
	@echo "make test-tpu  the TPU path, on XLA's CPU devices (an environment of its own, 6.3 GB)"
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

# torch_xla in an environment of its own: Linux on x86-64, Python 3.11 to 3.13.
test-tpu: $(TPU_READY)
	$(TPU_BIN)/python -m pytest -o addopts=-q tests/xla

$(TPU_READY): constraints-tpu.txt constraints.txt
	$(PYTHON) -m venv $(TPU_VENV)
	$(TPU_BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps -r constraints-tpu.txt
	$(TPU_BIN)/python -m pip install --quiet --disable-pip-version-check --no-warn-conflicts -c constraints.txt $(TPU_LIGHT)
	@touch $(TPU_READY)

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

wheel: $(READY)
	$(BIN)/python -m pip wheel --quiet --no-deps --wheel-dir dist .

clean:
	rm -rf $(VENV) $(TPU_VENV) $(WORKSPACE) build dist
