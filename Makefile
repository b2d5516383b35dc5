# `make` lists the commands. Everything runs in .venv, which each command sets up first if it is not.
#
#   PYTHON=python3.12 make setup      another interpreter (3.11 or newer) for .venv
#   JOBS=8 make test                  more test processes
#   ARGS="--port 8000" make run       more flags for the daemon
#   SECONDS=3600 make chaos           a longer one

PYTHON ?= python3
JOBS ?= 3
SECONDS ?= 60
ARGS ?=

VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.set-up
CLIENTS := .venv-clients
SUITE := tests/clients_suite

.DEFAULT_GOAL := help
.PHONY: help setup run bench bench-daemon test chaos clients gpu soak lint format types contracts check docs assets screenshots pins deb clean distclean

help: ## list the commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: $(STAMP) ## make .venv with everything in it

run: $(STAMP) ## start the daemon on the bundled model, at http://127.0.0.1:4363
	@$(BIN)/gemmad serve --demo $(ARGS)

bench: $(STAMP) ## measure the bundled model, in seconds; ARGS adds flags
	@$(BIN)/gemmad bench --demo --quick --threads 1 $(ARGS)

bench-daemon: $(STAMP) ## measure what the daemon costs a token; ARGS adds flags
	@$(BIN)/python -m tests.cost $(ARGS)

test: $(STAMP) ## run the tests
	$(BIN)/python -m pytest -n $(JOBS) --dist loadfile

chaos: $(STAMP) ## kill, stop and renew workers under load for a minute: no answer may change
	$(BIN)/python -m tests.chaos --seconds $(SECONDS) $(ARGS)

clients: $(STAMP) $(CLIENTS)/.set-up ## try real clients on the bundled model: SDKs of Python and Node, LangChain, Codex and more
	$(CLIENTS)/current/bin/python -m pytest -c $(SUITE)/clients.ini $(SUITE)/current $(ARGS)
	$(CLIENTS)/held_back/bin/python -m pytest -c $(SUITE)/clients.ini $(SUITE)/held_back $(ARGS)
	$(CLIENTS)/fuzz/bin/python -m pytest -c $(SUITE)/clients.ini $(SUITE)/fuzz $(ARGS)

gpu: $(STAMP) ## run the tests of kernels and engine on the GPU that is there
	$(BIN)/python -m pytest tests/gpu tests/kernels

soak: $(STAMP) ## run the tests that take ten minutes each
	$(BIN)/python -m pytest -m soak

lint: $(STAMP) ## look for mistakes and odd formatting
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: $(STAMP) ## format the code
	$(BIN)/ruff check --fix-only .
	$(BIN)/ruff format .

types: $(STAMP) ## check the types
	$(BIN)/mypy

contracts: $(STAMP) ## check which package imports which
	$(BIN)/lint-imports --no-logo

check: lint types contracts test ## all of lint, types, contracts, test and then chaos: what CI runs
	@$(MAKE) --no-print-directory chaos

docs: $(STAMP) ## write the pages that are made from the code
	$(BIN)/python tools/write_docs.py

assets: $(STAMP) ## fetch what the pages use of others through npm, and put it into the package
	cd tools/assets && npm ci --ignore-scripts --no-audit --no-fund
	$(BIN)/python tools/vendor_assets.py

screenshots: $(STAMP) ## take the pictures of both pages for the docs anew; needs chromium and five minutes
	GEMMAD_SCREENSHOTS=1 $(BIN)/python -m pytest tests/browser/test_screenshots.py

pins: $(STAMP) ## write constraints.txt from what .venv has
	$(BIN)/python tools/pins.py > constraints.new
	mv constraints.new constraints.txt
	$(BIN)/python tools/pins.py --locks

deb: $(STAMP) ## build dist/gemmad_*.deb, for the Python that Debian has here; ARGS adds flags
	$(BIN)/python packaging/deb/build.py $(ARGS)
	@! command -v lintian >/dev/null || lintian --allow-root --fail-on error dist/gemmad_*.deb

clean: ## remove what the commands made, but for .venv
	rm -rf build dist .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis .coverage
	find gemmad tests tools -name __pycache__ -type d -prune -exec rm -rf {} +

distclean: clean ## remove .venv too
	rm -rf $(VENV) $(CLIENTS) $(SUITE)/node/node_modules

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "gemmad needs Python 3.11 or newer: make PYTHON=/path/to/python3.12")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@

# Each environment has what can live together: some clients want an older OpenAI SDK, aider a version of everything.
$(CLIENTS)/.set-up: $(wildcard $(SUITE)/requirements-*.txt) $(SUITE)/node/package.json
	for each in current held_back aider fuzz; do \
	  $(PYTHON) -m venv $(CLIENTS)/$$each && $(CLIENTS)/$$each/bin/python -m pip install -q --disable-pip-version-check \
	    --no-deps -r $(SUITE)/requirements-$$each.txt || exit 1; \
	done
	cd $(SUITE)/node && npm install --no-package-lock --ignore-scripts --no-audit --no-fund
	@touch $@
