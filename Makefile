# Everything a newcomer types. `make` alone prints this list; a machine with only Python is enough.
SHELL := /bin/sh
.DEFAULT_GOAL := help
.PHONY: help setup run check fmt lint type test fast simulate bench bench-large soak openapi lock clean

BIN := .venv/bin
# The environment is made again when the lock or the project file says something else.
READY := .venv/.ready-$(shell cat requirements/dev.txt pyproject.toml | cksum | tr ' ' '-')
PYTHONS := python3 python3.13 python3.12 python3.11
FAST := $(wildcard tests/domain tests/consumers tests/api)

help: ## Print this list
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -e 's/:.*## /|/' | while IFS='|' read -r name text; do printf '  %-8s %s\n' "$$name" "$$text"; done

setup: $(READY) ## Make the environment in .venv from the hashed lock (uv if present, else venv and pip)

$(READY):
	@set -e; \
	if [ ! -x $(BIN)/python ]; then \
	  for each in $(PYTHONS); do \
	    if $$each -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then python=$$each; break; fi; \
	  done; \
	  if [ -z "$$python" ]; then echo "Python 3.11 or newer is needed; none of: $(PYTHONS)" >&2; exit 1; fi; \
	  echo "making .venv with $$($$python --version)"; \
	  if command -v uv >/dev/null; then uv venv -q --no-python-downloads --python "$$($$python -c 'import sys; print(sys.executable)')" .venv; \
	  else $$python -m venv .venv; fi; \
	fi; \
	if command -v uv >/dev/null; then install="uv pip install -q --python $(BIN)/python"; \
	else \
	  $(BIN)/python -m pip --version >/dev/null 2>&1 || $(BIN)/python -m ensurepip -q; \
	  install="$(BIN)/python -m pip install -q --disable-pip-version-check"; fi; \
	echo "installing what requirements/dev.txt locks"; \
	$$install --require-hashes -r requirements/dev.txt; \
	$$install --no-deps --no-build-isolation -e .; \
	rm -f .venv/.ready-*; touch $@

run: setup ## Start PostgreSQL, Kafka, the ledger and its API, and stream a day (TRACE=path.csv.gz, SEED=n, ONCE=1)
	@$(BIN)/coffer up $(if $(TRACE),--trace '$(TRACE)') $(if $(SEED),--seed '$(SEED)') $(if $(filter-out 0,$(ONCE)),--once)

check: setup ## Format, lint, types, import contracts and the fast tests: what must hold before a commit
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/pytest -q $(FAST)

fmt: setup ## Format the code and mend what the linter can mend by itself
	$(BIN)/ruff check --fix-only -q .
	$(BIN)/ruff format .

lint: setup ## Lint and check the import contracts
	$(BIN)/ruff check .
	$(BIN)/lint-imports

type: setup ## Check the types (mypy, strict)
	$(BIN)/mypy

fast: setup ## Run the tests that need no services
	$(BIN)/pytest -q $(FAST)

test: setup ## Run every test, against a real PostgreSQL and a real Kafka that it starts itself
	$(BIN)/pytest

simulate: setup ## Live through seeds of 13 months x 5 teams beside an independent model (SEEDS=200, FIRST=1, JOBS=cores)
	@$(BIN)/python -m tests.simulation.run $(if $(SEEDS),--seeds '$(SEEDS)') $(if $(FIRST),--first '$(FIRST)') $(if $(JOBS),--jobs '$(JOBS)')

bench: setup ## Measure rates and latencies, under ten minutes; writes out/bench.json and out/bench.svg
	$(BIN)/python -m tests.bench

bench-large: setup ## Measure long histories, many teams and a big table, up to 40 minutes; writes out/bench-large.json
	$(BIN)/python -m tests.bench.large

soak: setup ## Measure what everything together sustains (MINUTES=10); writes out/soak.json
	$(BIN)/python -m tests.bench.soak --minutes $(or $(MINUTES),10)

openapi: setup ## Write the description of the API to the file that the tests pin
	$(BIN)/coffer openapi --file tests/api/openapi.json

lock: setup ## Lock the dependencies anew after a change of pyproject.toml (needs uv)
	uv pip compile -q pyproject.toml --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header -o requirements/run.txt
	uv pip compile -q pyproject.toml --extra dev -c requirements/run.txt --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header -o requirements/dev.txt
	$(BIN)/python -m infra.local.kafka_jars

clean: ## Remove caches and measurements; the environment (.venv) and the local data (.coffer) stay
	rm -rf out build *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache .coffer/test
	find . -name __pycache__ -not -path './.venv/*' -prune -exec rm -rf {} +
