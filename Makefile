# Everything a newcomer needs: `make demo` and `make test`.

PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
# pip would compile all that libraries bring; Python compiles what is used when it is first used.
INSTALL := $(PIP) install -q --no-compile
# One pip fetches and unpacks on one core. What is pinned needs no choosing, so two share it; what
# they cannot install here is left to the one after them, which says why.
PINNED := xargs -P 2 -n 32 $(INSTALL) -qq --no-deps < constraints.txt
PORT ?= 5006
# The tests start hundreds of processes; none compiles anew what another one has compiled.
unexport PYTHONDONTWRITEBYTECODE
# A file's tests stay together: what they start, they share. PyTorch's threads sleep while they
# wait; spinning they keep the cores from the other process's, and both take several times as long.
PYTEST = GOMP_SPINCOUNT=500 $(BIN)/python -m pytest --dist=loadfile \
    --numprocesses=$(shell $(BIN)/python tests/count_workers.py)

.PHONY: demo test quick check bench test-slow test-vllm model browser services clean

demo: .venv/installed model  ## Install, pull the default model, open the chat page.
	@echo "Open http://localhost:$(PORT)/app"
	$(BIN)/panel serve serve/app.py --plugins chatkit.ui.metrics --port $(PORT) \
	    --allow-websocket-origin=localhost:$(PORT) \
	    --allow-websocket-origin=127.0.0.1:$(PORT)

test: .venv/installed-dev model browser services check  ## Everything but the slow tests.
	$(PYTEST) -m "not slow and not vllm"

quick: .venv/installed-dev check  ## No model, browser or server, nothing lengthy: about a minute.
	$(PYTEST) --dist=worksteal -m "not slow and not vllm and not model and not browser \
	    and not services and not lengthy"

test-slow: .venv/installed-dev model browser services  ## What takes long.
	$(PYTEST) -m slow

test-vllm: .venv/installed-dev model  ## A real vLLM on the CPU, in an environment of its own.
	$(BIN)/python tests/install_vllm.py .venv-vllm
	$(BIN)/python -m pytest -m vllm

check: .venv/installed-dev  ## Format, lint and types.
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy --num-workers=2

bench: .venv/installed-dev model services  ## Figures, as ratios of things measured in the same run.
	$(BIN)/python -m benchmarks

model: .venv/installed
	$(BIN)/python -m chatkit pull smollm2-135m

browser:
	@sh tests/install_browser.sh "$(BIN)"

services:
	@sh tests/install_services.sh

.venv/bin/python:
	$(PYTHON) -m venv --upgrade-deps .venv

.venv/installed: pyproject.toml constraints.txt | .venv/bin/python
	$(INSTALL) -c constraints.txt -e .
	touch $@

.venv/installed-dev: pyproject.toml constraints.txt | .venv/bin/python
	$(PINNED) || true
	$(INSTALL) -c constraints.txt -e '.[dev]'
	touch .venv/installed $@

clean:
	rm -rf .venv
