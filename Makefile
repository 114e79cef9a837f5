# Needs Python 3.11 or 3.12 and make; everything else is set up in .venv.
PYTHON ?= python3.11
BIN := .venv/bin

.PHONY: setup demo test check accuracy bench clean

demo: .venv/ready
	$(BIN)/python sample_data/demo.py

test: .venv/ready-test
	$(BIN)/python -m pytest

check: .venv/ready-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright
	$(BIN)/python -m pytest -q tests/test_layers.py

accuracy: .venv/ready
	$(BIN)/python benchmarks/accuracy.py

bench: .venv/ready
	$(BIN)/python benchmarks/speed.py

setup: .venv/ready

.venv/ready: pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --editable .
	touch $@

.venv/ready-test: .venv/ready
	$(BIN)/python -m pip install --quiet --editable '.[test,bench]'
	touch $@

clean:
	rm -rf .venv demo build dist .pytest_cache .ruff_cache .hypothesis
