# Two commands for a newcomer: `make demo` and `make test`. Both build .venv when it is missing.
PYTHON ?= $(shell command -v python3.11 || command -v python3.12 || echo python3)
VENV := .venv
BIN := $(VENV)/bin
OUT ?= out/demo

.PHONY: demo test lint test-slow kills bench fit clean

demo: $(VENV)/.installed
	$(BIN)/curate run pipeline=demo out=$(OUT)

test: $(VENV)/.installed-dev lint
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile -m "not slow and not gpu"

test-slow: $(VENV)/.installed-dev
	$(BIN)/python -m pytest -m slow

lint: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright
	$(BIN)/lint-imports

# Heavy checks, minutes each on 2 quiet cores; benchmarks/RESULTS.md has the figures.
kills: $(VENV)/.installed-dev
	$(BIN)/python -m benchmarks.kills --engine inline
	$(BIN)/python -m benchmarks.kills --engine local

bench: $(VENV)/.installed-dev
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.engine --chain 5
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.speedup
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.columns --rows 10000000 --shards 1000
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.memory --plot docs/memory.png
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.hostile
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.download
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.cheap_annotators
	$(BIN)/python -m benchmarks.annotate

# Train the toy model pack again (about an hour on 2 cores).
fit: $(VENV)/.installed
	$(BIN)/python -m pipelines.toyweb.fit_models --out curate/models/toy

$(VENV)/bin/pip:
	$(PYTHON) -m venv $(VENV)

# torch and torchvision first and as a matched pair: the PyPI torchvision does not fit every torch build.
$(VENV)/.installed: pyproject.toml | $(VENV)/bin/pip
	$(BIN)/pip install -q "torch==2.14.1" "torchvision==0.29.1"
	$(BIN)/pip install -q -e .
	touch $@

$(VENV)/.installed-dev: pyproject.toml | $(VENV)/.installed
	$(BIN)/pip install -q -e ".[offline,dev]"
	touch $@

clean:
	rm -rf out .pytest_cache .ruff_cache
