# Every target makes .venv itself; stamp files make the second time quick.
PYTHON ?= python3
VENV := .venv
PY := $(VENV)/bin/python
PIP := $(PY) -m pip install --quiet --disable-pip-version-check
RUN_STAMP := $(VENV)/.installed
TEST_STAMP := $(VENV)/.installed-test

.PHONY: install run test test-exact test-pages check format clean

install: $(RUN_STAMP)

$(RUN_STAMP): pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit("xpod needs Python 3.11 or newer" if sys.version_info < (3, 11) else 0)'
	test -x $(PY) || $(PYTHON) -m venv $(VENV)
	$(PIP) torch==2.13.0
	$(PIP) --editable .
	touch $@

$(TEST_STAMP): $(RUN_STAMP)
	$(PIP) --editable '.[test]'
	touch $@

run: $(RUN_STAMP)
	$(VENV)/bin/xpod run 'def fibonacci(n):' --max-tokens 96 --seed 5

test: $(TEST_STAMP)
	$(PY) -m pytest

test-exact: $(TEST_STAMP)
	$(PY) -m pytest -m exact --timeout=1200

test-pages: $(TEST_STAMP)
	$(PY) -m pytest -m pages

check: $(TEST_STAMP)
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/ruff check .
	$(VENV)/bin/mypy
	$(VENV)/bin/lint-imports

format: $(TEST_STAMP)
	$(VENV)/bin/ruff format .
	$(VENV)/bin/ruff check --fix .

clean:
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .import_linter_cache
