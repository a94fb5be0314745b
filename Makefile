# Two commands matter: `make demo` and `make test`. Both create the environment if it is missing.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
JOBS ?= 2
# Two OpenMP threads a process would spin against each other on two cores.
export OMP_NUM_THREADS ?= 1

.DEFAULT_GOAL := help

help: ## Show this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

$(BIN)/mirrormask: pyproject.toml constraints.txt hatch_build.py $(wildcard src/mirrormask/kernels/source/*)
	@test -n "$(PYTHON)" || { echo "Python is missing: set PYTHON=, 3.11 or newer." >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --disable-pip-version-check --progress-bar on -c constraints.txt -e ".[dev]"
	@touch $@

env: $(BIN)/mirrormask ## Create the environment

demo: $(BIN)/mirrormask ## Train a dense network and its 95 % sparse twin on packaged images
	$(BIN)/mirrormask train --threads 2 --bench 1,64

test: $(BIN)/mirrormask ## Run all tests
	$(BIN)/python -m pytest -q -n $(JOBS)

lint: $(BIN)/mirrormask ## Check style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(BIN)/mirrormask ## Rewrite the code in the house style
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean: ## Remove the environment and caches; runs stay
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis build dist

.PHONY: help env demo test lint format clean
