# train | test | test-unit | contract | check | bench | results: each sets up what it needs by itself, once.

PYTHON ?= python3
# Exactly this version, and first: an open range could fetch gigabytes of CUDA packages.
TORCH ?= torch==2.13.0
VENV ?= .venv
RECIPE ?= quickstart
FLAGS ?=
BIN := $(VENV)/bin
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: train test test-unit contract check bench results clean

train: $(VENV)/.installed
	$(BIN)/wrn train --recipe $(RECIPE) $(FLAGS)

# A worker for each CPU; tests marked with one xdist_group share a worker, and so never run at the same time.
PYTEST := $(BIN)/python -m pytest -n auto --dist loadgroup

test: $(VENV)/.installed-dev
	$(PYTEST) $(FLAGS)

test-unit: $(VENV)/.installed-dev
	$(PYTEST) tests/unit $(FLAGS)

# What AWS's own toolkit makes of our code: its packages are many, so `make test` goes without them.
contract: $(VENV)/.installed-contract
	$(BIN)/python -m pytest tests/contract $(FLAGS)

check: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/bandit --quiet --recursive --configfile pyproject.toml src

bench: $(VENV)/.installed-dev
	$(BIN)/python benchmarks/bench_data.py $(FLAGS)
	$(BIN)/python benchmarks/bench_train.py --depth 16 --widen-factor 4 --batch-size 128 $(FLAGS)
	$(BIN)/python benchmarks/bench_scaling.py --depth 16 --widen-factor 4 --batch-size 128 $(FLAGS)
	$(BIN)/wrn bench train --depth 16 --widen-factor 4 --batch-size 128 --dropout 0 $(FLAGS)

results: $(VENV)/.installed-dev
	$(BIN)/python benchmarks/results_table.py
	$(BIN)/python benchmarks/experiments_table.py

clean:
	rm -rf $(VENV)

# A stamp behind each step: a second run installs nothing, a changed pyproject.toml installs again.
$(VENV)/.torch:
	@$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(0 if v >= (3, 11) else \
		f"Python 3.11 or newer is needed, {sys.executable} is {v[0]}.{v[1]}; try: make PYTHON=python3.12")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet $(TORCH)
	@touch $@

$(VENV)/.installed: $(VENV)/.torch pyproject.toml
	$(BIN)/python -m pip install --quiet --editable .
	@touch $@

$(VENV)/.installed-aws: $(VENV)/.torch pyproject.toml
	$(BIN)/python -m pip install --quiet --editable '.[aws]'
	@touch $@ $(VENV)/.installed

$(VENV)/.installed-dev: $(VENV)/.torch pyproject.toml
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	@touch $@ $(VENV)/.installed $(VENV)/.installed-aws

$(VENV)/.installed-contract: $(VENV)/.installed-dev
	$(BIN)/python -m pip install --quiet --editable '.[contract]'
	@touch $@
