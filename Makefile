# The two commands of the README are `make demo` and `make test`; both build their environment from the lock file.

PYTHON ?= python3
VENV ?= .venv
MINUTES ?= 10
OUT ?= runs/demo
BIN := $(VENV)/bin

.PHONY: demo test fuzz check format lint types environment lock clean

demo: environment
	$(BIN)/trivium run --minutes $(MINUTES) --out $(OUT)
	$(BIN)/trivium report $(OUT)

test: environment
	$(BIN)/python -m pytest -n auto --dist loadfile --max-worker-restart 0

fuzz: environment
	$(BIN)/python -m pytest --hypothesis-profile fuzz

check: format lint types test

format: environment
	$(BIN)/ruff format --check .

lint: environment
	$(BIN)/ruff check .

types: environment
	$(BIN)/mypy

environment: $(VENV)/.ready

$(VENV)/.ready: requirements.lock pyproject.toml
	$(PYTHON) -c 'import sys; assert sys.version_info >= (3, 11), "Trivium needs Python 3.11 or newer"'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --requirement requirements.lock
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --editable .
	touch $@

# Writes requirements.lock anew from pyproject.toml with uv (https://docs.astral.sh/uv). torch's own CUDA packages are left
# out: torch pins them itself, and its CPU build needs none of them.
lock:
	echo "torch==2.13.0" > $(VENV)/torch.pin
	uv pip compile --universal --python-version 3.11 --group dev --constraint $(VENV)/torch.pin --no-header --no-annotate \
	    --quiet pyproject.toml | grep -vE '^(nvidia-|cuda-|triton)' > requirements.lock

clean:
	rm -rf $(VENV) build *.egg-info
