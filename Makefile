# `make lab` opens the course; `make test` proves it. Both build .venv first if it is missing or stale.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
# JupyterLab refuses to run as root, which is who one is in most containers.
AS_ROOT := $(if $(filter 0,$(shell id -u)),--allow-root)

# Two processes with a thread each, since most of what runs here keeps one core busy and no more. A file stays in one of
# them: its tests share what they have set up, and a notebook's cells a kernel. In order: browser/, the slowest, first.
TWO := -n 2 --dist loadfile --no-loadscope-reorder

.PHONY: lab test data notebooks lint

lab: $(READY)
	$(BIN)/jupyter lab $(AS_ROOT) notebooks/00_start_here.ipynb

test: lint
	OMP_NUM_THREADS=1 $(BIN)/pytest $(TWO) tests
	OMP_NUM_THREADS=1 $(BIN)/pytest $(TWO) --nbval notebooks/

data: $(READY)
	$(BIN)/python -m resnet_lib data

# Make every notebook anew from its text twin: execute it and store the outputs.
notebooks: $(READY)
	$(BIN)/python tools/build_notebooks.py

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

# Only a set-up that went through leaves the mark, so a broken one is taken up again.
$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "The course needs Python 3.11 or newer; this is " + sys.version.split()[0] + ". Name another: make PYTHON=python3.12")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[lab,dev]"
	@touch $(READY)
