# `make search` and `make test` do everything, set-up included; what is up to date is not done again.
PYTHON ?= python3
BIN := .venv/bin
TEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n 2 --dist worksteal

.PHONY: install search lint quick test bench clean

install: .venv/installed

.venv/installed: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed; set PYTHON=")'
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --disable-pip-version-check -q -c constraints.txt -e '.[dev]'
	touch $@

search: install
	$(BIN)/python run_search.py studies/default.yaml
	$(BIN)/python analyze.py report runs/default

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

quick: lint
	$(TEST) tests/unit

test: lint
	$(TEST) --durations=10

bench: install
	$(BIN)/python -m benchmarks.grouped_fc
	$(BIN)/python -m benchmarks.conversion
	$(BIN)/python -m benchmarks.training_step
	$(BIN)/python -m benchmarks.networks
	$(BIN)/python -m benchmarks.quiet_measurement

clean:
	rm -rf .venv build *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find . -name __pycache__ -prune -exec rm -rf {} +
