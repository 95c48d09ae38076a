# Needs Python 3.11 or newer and nothing else: every target sets up what it uses in .venv.

VENV := .venv
BIN := $(VENV)/bin
PYTHON ?= $(shell for p in python3.11 python3.12 python3.13 python3.14 python3; do \
	if $$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then command -v $$p; break; fi; done)
PIP := $(BIN)/python -m pip --disable-pip-version-check

.PHONY: demo images test test-rest test-all lint docs package bench scoreboard clean
.DELETE_ON_ERROR:

demo: $(VENV)/.demo
	$(BIN)/onnxopt optimize models/digits_resnet.onnx --data digits --calibration digits:train --max-drop 1pp \
		--strategy edge \
		--out runs/demo --overwrite
	@echo "The report: runs/demo/report.html"

# The pictures of the demo's report in README.md and docs; needs Chromium.
images: demo
	$(BIN)/python -m docs.report_images runs/demo/report.html

# Every kind of check; of grids of combinations a part that covers each option and each model.
test: $(VENV)/.dev
	$(BIN)/python -m pytest -n 2

# The rest of the grids, and what takes long.
test-rest: $(VENV)/.dev
	$(BIN)/python -m pytest -n 2 -m "grid or long"

test-all: test test-rest

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python .ci/house.py onnxopt bench models docs .ci

docs: $(VENV)/.dev
	$(BIN)/sphinx-build -q -W --keep-going -b html docs docs/_build/html
	@echo "The documentation: docs/_build/html/index.html"

# Downloads build tools and, for each installed Python from 3.11 to 3.14, the dependencies.
package:
	.ci/package

bench: $(VENV)/.dev
	$(BIN)/python bench/optimize.py --prune

# Hours: every bench of docs/BENCHMARKS.md again, then the page.
scoreboard: $(VENV)/.dev
	$(BIN)/python bench/scoreboard.py --measure

clean:
	rm -rf $(VENV) build dist docs/_build docs/reference *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache runs

$(BIN)/python:
	@test -n "$(PYTHON)" || { \
		echo "Python 3.11 or newer is needed. Install it, or run: make PYTHON=/path/to/python $(MAKECMDGOALS)" >&2; exit 1; }
	@"$(PYTHON)" -m venv $(VENV) || { rm -rf $(VENV); \
		echo "$(PYTHON) cannot make a virtual environment. On Debian and Ubuntu: apt install python3-venv" >&2; exit 1; }

$(VENV)/.demo: $(BIN)/python pyproject.toml constraints.txt
	$(PIP) install --quiet --constraint constraints.txt --editable ".[digits]"
	@touch $@

$(VENV)/.dev: $(BIN)/python pyproject.toml constraints.txt
	$(PIP) install --quiet --constraint constraints.txt --editable ".[dev]"
	@touch $@
