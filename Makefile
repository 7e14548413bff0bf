# serve and test set up everything they need in .venv; PYTHON, PORT, HOST, SET and TORCH_INDEX may be given.
PYTHON ?= python3.11
PORT ?= 8000
HOST ?= 127.0.0.1
SET ?=
BIN := .venv/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt $(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX))

.PHONY: serve test check format load soak-bulk train-smoke chaos clean

serve: .venv/.installed
	$(BIN)/mattehorn serve --host $(HOST) --port $(PORT) $(foreach pair,$(SET),--set $(pair))

test: .venv/.installed-test
	infra/fetch_system_parts.sh
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder --durations 25

check: .venv/.installed-test
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/python -m pytest -q tests/test_layers.py tests/test_docs.py

format: .venv/.installed-test
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

load: .venv/.installed-load
	$(BIN)/python -m loadtests

soak-bulk: .venv/.installed-load
	$(BIN)/python -m loadtests.soak

train-smoke: .venv/.installed-test
	$(BIN)/python -m training.smoke

chaos: .venv/.installed-test
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python -m tests.chaos

clean:
	rm -rf build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis

.venv/bin/python:
	$(PYTHON) -m venv .venv

.venv/.installed: .venv/bin/python pyproject.toml constraints.txt
	$(PIP) -e ".[heic]"
	touch $@

.venv/.installed-test: .venv/.installed
	$(PIP) -e ".[heic,test,load]"
	touch $@

.venv/.installed-load: .venv/.installed
	$(PIP) -e ".[heic,load]"
	touch $@
