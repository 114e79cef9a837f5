# Needs Python 3.11 or 3.12 and make; everything else is set up in .venv.
PYTHON ?= python3.11
VENV ?= .venv
BIN := $(VENV)/bin

.PHONY: demo test check accuracy bench clean

demo: $(VENV)/ready
	$(BIN)/python sample_data/demo.py

test: $(VENV)/ready-test
	$(BIN)/python -m pytest --numprocesses auto --dist loadfile

check: $(VENV)/ready-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright --pythonpath $(BIN)/python
	$(BIN)/python -m pytest -q tests/test_layers.py

accuracy: $(VENV)/ready
	$(BIN)/python benchmarks/accuracy.py
	$(BIN)/python benchmarks/accuracy_volumes.py
	$(BIN)/python benchmarks/accuracy_objects.py
	$(BIN)/python benchmarks/recipes.py
	$(BIN)/python benchmarks/kills.py

bench: $(VENV)/ready-bench
	$(BIN)/python benchmarks/run.py

$(VENV)/ready: pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --editable '.[cpu]'
	touch $@

$(VENV)/ready-test: $(VENV)/ready
	$(BIN)/python -m pip install --quiet --editable '.[cpu,test]'
	touch $@

$(VENV)/ready-bench: $(VENV)/ready
	$(BIN)/python -m pip install --quiet --editable '.[cpu,bench]'
	touch $@

clean:
	rm -rf $(VENV) demo bench-work build dist .pytest_cache .ruff_cache .hypothesis
