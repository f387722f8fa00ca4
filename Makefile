# Two commands set everything up on a machine with Python 3.11+ and make:
#   make tune   the main job: K-FAC tuned by FisherSampler on digits, against tuned Adam and SGD
#   make test   lint, layers, types and tests
# and make docs builds the pages.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2

COMPARE ?= adam,sgd
TUNE ?= --compare $(COMPARE) --jobs 2

.PHONY: tune test lint fast slow docs clean

tune: $(READY)
	OMP_NUM_THREADS=1 $(BIN)/fisherbo tune $(TUNE)

test: lint fast slow

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	$(BIN)/mypy

fast: $(READY)
	$(PYTEST)

slow: $(READY)
	$(PYTEST) -m slow

docs: $(READY)
	$(BIN)/python -m sphinx -b html -W --keep-going -q docs docs/_build/html
	@echo 'docs/_build/html/index.html'

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo 'fisherbo needs Python 3.11 or newer; name one with: make PYTHON=/path/to/python3'; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check 'torch==2.13.0'
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[test,bench]'
	touch $@

clean:
	rm -rf $(VENV) runs docs/_build
