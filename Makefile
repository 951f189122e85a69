# `make help` lists what there is.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
T ?= tests
# Tests and the demo start hundreds of processes, and each would compile our modules anew.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help demo dev test test-hf lint fix check serve worker migrate bench-eval bench-load bench-registry bench-vera results screenshots clean

help: ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-12s %s\n", $$1, $$2}'

# constraints.txt pins every package, torch among them: nothing else may choose its build.
$(STAMP): pyproject.toml constraints.txt
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "Installing into $(VENV) (a minute or two the first time) ..."
	@$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[test]' 2>&1 | grep -v 'is ignored: it is neither' || true
	@$(BIN)/python -c "import click, fastapi, torch, pytest" && touch $(STAMP)

dev: $(STAMP) ## make .venv with everything in it

demo: $(STAMP) ## the whole job on a real model: train, push, load, evaluate, rank
	@$(BIN)/python -m hub.demo $(if $(DEMO_ONESHOT),--oneshot)

# Each process has one half of the files, and helps the other when it is done: what the tests of a file share is made once, not in both.
test: $(STAMP) ## run the tests (T=tests/vera for one package)
	@$(BIN)/python tests/chromium.py
	@$(BIN)/pytest -n 2 --dist worksteal $(T)

test-hf: $(STAMP) ## publish and read with several releases of huggingface_hub, each in an environment of its own
	@$(BIN)/python -m tests.hf.clients .hf-clients

lint: $(STAMP) ## ruff, mypy --strict and the import rules
	@$(BIN)/ruff check . && $(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-cache

fix: $(STAMP) ## let ruff mend what it can
	@$(BIN)/ruff check --fix . ; $(BIN)/ruff format .

check: lint test ## exactly what CI runs

serve: $(STAMP) ## a hub on 127.0.0.1:8000
	@$(BIN)/vera-hub serve

worker: $(STAMP) ## an evaluation worker for the hub of this machine
	@$(BIN)/vera-hub worker

migrate: $(STAMP) ## bring the database of VERA_HUB_DATABASE_URL to this release's schema
	@$(BIN)/vera-hub migrate

bench-load: $(STAMP) ## getting an adapter onto a live model, beside PEFT
	@$(BIN)/python -m tests.benchmarks.load

bench-eval: $(STAMP) ## many adapters scored on one task, together and one by one, beside PEFT
	@$(BIN)/python -m tests.benchmarks.evaluating

bench-registry: $(STAMP) ## a hub under load, and searches of 100,000 adapters (needs wrk)
	@$(BIN)/python -m tests.benchmarks.registry

bench-vera: $(STAMP) ## the method beside PEFT and torch, on this machine (and its GPU)
	@$(BIN)/python -m tests.benchmarks.vera

results: $(STAMP) ## score the adapters of docs/results again and compare (ONLY=minilm/mrpc for some)
	@$(BIN)/python -m tests.benchmarks.results.rescore --only '$(ONLY)'

screenshots: $(STAMP) ## pictures of a running hub's pages (URL=http://127.0.0.1:8000) into docs/images
	@$(BIN)/python tests/screenshots.py $(or $(URL),http://127.0.0.1:8000) docs/images

clean: ## remove what was built
	rm -rf $(VENV) .demo .hf-clients dist build
