# Every command a developer runs. `make` alone lists them.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
# Stamps: pip is recent enough; what the demo needs is installed; everything is.
PIP    := $(VENV)/.pip
DEMO   := $(VENV)/.demo
READY  := $(VENV)/.ready
INSTALL = $(BIN)/python -m pip install --quiet --disable-pip-version-check
export OMP_NUM_THREADS ?= 2
export HF_HUB_DISABLE_TELEMETRY = 1

.DEFAULT_GOAL := help
.PHONY: help demo demo-real test test-all fuzz lint type check format docs tables build bench peers quality quality-heal clean

help:            ## list the targets
	@grep -E '^[a-z-]+: .*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1|/' | awk -F'|' '{printf "  make %-14s %s\n", $$1, $$2}'

$(PIP):
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or later is needed: make PYTHON=python3.12")'
	@echo "Creating a virtual environment in $(VENV)"
	@$(PYTHON) -m venv $(VENV)
	@$(INSTALL) --upgrade 'pip>=25.1'
	@touch $@

$(DEMO): pyproject.toml | $(PIP)
	@echo "Installing the package, torch and transformers into $(VENV); this takes about a minute"
	@$(INSTALL) --group demo --editable .
	@touch $@

$(READY): pyproject.toml | $(PIP)
	@echo "Installing the package and all development tools into $(VENV); this takes a minute or two"
	@$(INSTALL) --group dev --editable .
	@touch $@

demo: $(if $(wildcard $(READY)),$(READY),$(DEMO)) ## upscale a tiny random Mistral, verify it, generate with it, show its layer map
	@$(BIN)/python -m tests.demo

demo-real: $(READY) ## the same with SmolLM2-135M-Instruct: a sentence before and after
	@$(BIN)/python -m tests.demo_real

test: export OMP_NUM_THREADS = 1
test: $(READY)   ## run the tests: what measures memory alone, then the others on all cores
	$(BIN)/python -m pytest tests/measured
	$(BIN)/python -m pytest --ignore=tests/measured --numprocesses=auto --dist=worksteal

test-all: $(READY) ## run the tests and the full sweeps
	$(BIN)/python -m pytest -m 'sweep or not sweep' -s

MINUTES ?= 3
fuzz: $(READY)   ## run the properties again and again: MINUTES=20, or SECONDS=90
	@$(BIN)/python -m tests.support.fuzz $(if $(SECONDS),$(SECONDS)s,$(MINUTES)m)

lint: $(READY)   ## style, and the direction of imports
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/lint-imports --no-logo

type: $(READY)   ## types
	$(BIN)/mypy

check: lint type test ## lint, type and test

format: $(READY) ## put the code in form
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

docs: $(READY)   ## write what the pages take from the program: docs/cli.md, docs/models.md, outputs of examples
	@$(BIN)/python -m tests.support.write_pages

tables: $(READY) ## what transformers' config classes say of model types; writes solar_upscale/architecture/generated.py
	@PATH=$(BIN):$$PATH $(BIN)/python -m tools.tables

build: $(READY)  ## build the wheel and the sdist and check them
	rm -rf dist
	$(BIN)/python -m build --outdir dist
	$(BIN)/twine check --strict dist/*

bench: $(READY)  ## side by side with cp, mergekit, transformers and safetensors; writes docs/benchmarks.md
	$(BIN)/python -m benchmarks.bench

peers: $(READY)  ## the same small jobs given to mergekit and FusionBench, each answer checked; writes a table of README.md
	$(BIN)/python -m benchmarks.peers

quality: $(READY) ## what patterns and starts do to a trained model; writes docs/starts.md
	$(BIN)/python -m benchmarks.quality

quality-heal: $(READY) ## a short continued training from each start; writes docs/heal.svg
	$(BIN)/python -m benchmarks.heal

clean:           ## remove what the other targets made
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
