# Each target makes the virtual environment it needs. PYTHON may name another interpreter, 3.11 or later.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check -q
STAMP := $(VENV)/.installed

.PHONY: install demo test test-slow test-lies bench bench-quality lint clean

install: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(PIP) install -c constraints.txt torch==2.13.0
	$(PIP) install -c constraints.txt -e '.[demo,simulation,bench,dev]'
	touch $(STAMP)

demo: install
	$(BIN)/consilium demo $(ARGS)

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

test: lint
	$(BIN)/pytest -m "not slow" $(ARGS)

test-slow: install
	$(BIN)/pytest -m slow $(ARGS)

test-lies: install
	$(BIN)/python tests/federation/lies.py --rounds 1000

bench: install
	$(BIN)/python tests/bench/bench.py kernels privacy secagg rounds

bench-quality: install
	$(BIN)/python tests/bench/bench.py quality private_study

clean:
	rm -rf $(VENV) build dist bench.json .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
