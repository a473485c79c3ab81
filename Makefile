# make demo: trains SFSC on generated pedestrians and prints the compatibility grid. make test: the test suite.
# Each of them first builds a virtual environment; only Python 3.10 or newer and make have to be there.

PYTHON ?= python3
VENV ?= .venv
FASTREID ?= fastreid==1.4.0
BIN = $(VENV)/bin
READY = $(VENV)/.ready

export PIP_DISABLE_PIP_VERSION_CHECK = 1

.PHONY: demo test lint clean

demo: $(READY)
	$(BIN)/python tools/train_net.py --config-file configs/Synthetic/sfsc_demo.yml

test: $(READY)
	$(BIN)/ruff check .
	$(BIN)/python -m pytest -q

lint: $(READY)
	$(BIN)/ruff check .

clean:
	rm -rf $(VENV) build projects/SwitchableCompat/*.egg-info

# FastReID goes in last and without its dependencies: it pins a torch that cannot be installed any more.
$(READY): setup.py Makefile
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 10) else "error: Python 3.10 or newer is needed, found " + sys.version.split()[0] + "; set PYTHON=...")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --editable '.[test]'
	$(BIN)/python -m pip install --quiet --no-deps '$(FASTREID)'
	@touch $(READY)
