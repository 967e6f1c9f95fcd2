# The few verbs. `make run` and `make test` need python >= 3.11 and nothing else; they set themselves up in .venv.
#
#   make run                      tune and serve the digits example, from nothing
#   make run TORCH_INDEX=URL      with another build of torch, such as https://download.pytorch.org/whl/cu126
#   make run PYTHON=python3.12    with another python

PYTHON ?= python3
TORCH_INDEX ?=
TORCH := torch==2.13.0
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
RUN_STAMP := $(VENV)/.installed
TEST_STAMP := $(VENV)/.installed-test
FAST := tests/unit tests/contracts tests/properties tests/quality tests/simulation
SLOW := tests/ray tests/end_to_end

.DEFAULT_GOAL := help
.PHONY: help run test test-system soak check bench clean

help:
	@echo "make run         tune a small network on handwritten digits and serve it meanwhile (about 2 minutes)"
	@echo "make test        all tests, the fast ones first (at most 15 minutes)"
	@echo "make test-system a cluster of three hosts, an object store; as root it installs what it needs (30 minutes)"
	@echo "make soak        an endpoint under load and change, and whether its processes grow (15 minutes)"
	@echo "make check       format, lint, types, layers, fast tests"
	@echo "make bench       the benchmarks, each beside its peers"
	@echo "make clean       take away what these made: .venv, runs, caches"
	@echo "The first of them installs what is needed into .venv (about 2 minutes, 1.5 GB)."

run: $(RUN_STAMP)
	$(BIN)/orchestrator run examples/digits/study.yaml --traffic --again

test: $(TEST_STAMP)
	$(BIN)/python -m pytest -q $(FAST)
	$(BIN)/python -m pytest -q -m "not long" $(SLOW)

test-system: $(TEST_STAMP)
	@tests/system/prepare.sh
	$(BIN)/python -m pytest -q -rs tests/system
	$(BIN)/python -m pytest -q -m long $(SLOW)

soak: $(TEST_STAMP)
	$(BIN)/python tests/system/soak.py --minutes 15

check: $(TEST_STAMP)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m pytest -q $(FAST)

bench: $(TEST_STAMP)
	@tests/system/prepare.sh moto
	@for script in benchmarks/*.py; do \
		echo "== $$script"; $(BIN)/python $$script --quick || exit 1; \
	done

clean:
	rm -rf $(VENV) runs build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "error: python 3.11 or later is needed; '$(PYTHON)' is: $$($(PYTHON) --version 2>&1 | head -1)." \
			"Give another one: make $(MAKECMDGOALS) PYTHON=python3.12" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
		echo "error: the venv of '$(PYTHON)' is incomplete (ensurepip is missing)." \
			"Install it: apt install python3-venv" >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); exit 1; }

$(RUN_STAMP): pyproject.toml constraints.txt | $(BIN)/python
	@echo "installing $(TORCH) into $(VENV) (about 1 minute)…"
	@$(PIP) install $(if $(TORCH_INDEX),--index-url $(TORCH_INDEX)) $(TORCH)
	@echo "installing the rest (about 1 minute)…"
	@$(PIP) install -c constraints.txt -e .
	@touch $@

$(TEST_STAMP): $(RUN_STAMP)
	@echo "installing the tools of the tests…"
	@$(PIP) install -c constraints.txt -e '.[test]'
	@touch $@
