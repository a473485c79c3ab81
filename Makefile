# make demo: trains SFSC on generated pedestrians, prints the compatibility grid, and searches the full model's gallery with
# the smallest sub-model. make test: what CI runs, make lint (ruff, mypy) and the test suite. make bench: speed and memory as
# ratios, on a machine that is idle. make gpu: everything that needs a GPU, in nine minutes, with the torch that is there;
# make gpu-wheels beforehand, where there is internet (docs/gpu.md).
# Each of them first builds a virtual environment; only Python 3.10 or newer and make have to be there.

PYTHON ?= python3
VENV ?= .venv
FASTREID ?= fastreid==1.4.0
BUDGET ?= 540
BIN = $(VENV)/bin
READY = $(VENV)/.ready
DEMO = --config-file configs/Synthetic/sfsc_demo.yml --weights outputs/demo/model_final.pth

export PIP_DISABLE_PIP_VERSION_CHECK = 1

.PHONY: demo test lint bench gpu gpu-wheels clean

demo: $(READY)
	$(BIN)/python tools/train_net.py --config-file configs/Synthetic/sfsc_demo.yml
	$(BIN)/python tools/search.py index $(DEMO) --width 1.0 --dataset SyntheticReID --output outputs/demo/gallery
	$(BIN)/python tools/search.py query $(DEMO) --width 0.25 --dataset SyntheticReID --gallery outputs/demo/gallery \
		--top 9 --rows 5 --show 1 --picture outputs/demo/search.png
	@sed -n '/^## mAP/,/^AC/p' outputs/demo/grid.md
	@echo "Next: $(BIN)/python tools/report.py --weights outputs/demo/model_final.pth --output outputs/demo/report"

test: lint
	$(BIN)/python -m pytest -q -n auto --dist loadfile

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/mypy

bench: $(READY)
	$(BIN)/python -m pip install --quiet --editable '.[bench]'
	$(BIN)/python tools/benchmark.py step --batch 32 --repeats 3 --output results/benchmark
	$(BIN)/python tools/benchmark.py aggregation --output results/benchmark
	$(BIN)/python tools/benchmark.py grid --repeats 3 --output results/benchmark
	$(BIN)/python tools/benchmark.py extraction --output results/benchmark
	$(BIN)/python tools/benchmark.py scaling --repeats 3 --output results/benchmark
	$(BIN)/python tools/benchmark.py options --batch 32 --repeats 3 --output results/benchmark
	$(BIN)/python tools/update_docs.py

# A machine with a GPU and no internet: no virtual environment, its own Python and torch.
gpu:
	$(PYTHON) -m gpu --budget $(BUDGET)

gpu-wheels:
	$(PYTHON) -m gpu.wheels --output outputs/gpu_wheels

clean:
	rm -rf $(VENV) build projects/SwitchableCompat/*.egg-info

# FastReID goes in last and without its dependencies: it pins a torch that cannot be installed any more.
$(READY): setup.py Makefile
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 10) else "error: Python 3.10 or newer is needed, found " + sys.version.split()[0] + "; set PYTHON=...")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --editable '.[test]'
	$(BIN)/python -m pip install --quiet --no-deps '$(FASTREID)'
	@touch $(READY)
