# Everything a contributor runs; `make help` lists it. The environment in .venv is made on first use and again
# when the lock changes. Another Python: `make PYTHON=python3.13 test`. Arguments: `make test ARGS="-k config"`.

PYTHON ?= python3
ARGS ?=

VENV := .venv
RUN := $(VENV)/bin/python -m
# -qq: what a machine's package settings warn about is not this project's to say; errors are still shown.
PIP := $(RUN) pip install --disable-pip-version-check --no-input -qq
SOURCES := src tests benchmarks scripts

.DEFAULT_GOAL := help
.PHONY: help demo test check format bench lock generate clean

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

demo: $(VENV)/.installed ## Show one person on several channels, in one terminal
	@$(RUN) muxi_identity.demo $(ARGS)

test: $(VENV)/.installed ## Run all tests, on SQLite and on a private PostgreSQL
	@$(RUN) pytest -n auto --dist worksteal $(ARGS)

check: $(VENV)/.installed ## Run what CI runs before the tests: style, types, layers, generated files, lock
	@$(RUN) ruff check --quiet .
	@$(RUN) ruff format --quiet --check . || { echo "error: not formatted; run 'make format'" >&2; exit 1; }
	@$(RUN) mypy
	@$(VENV)/bin/lint-imports --no-logo
	@$(VENV)/bin/python scripts/generate_sync.py --check
	@VIRTUAL_ENV=$(VENV) $(VENV)/bin/uv pip install --quiet --offline --dry-run -r pyproject.toml --all-extras --group dev \
	  || { echo "error: requirements.lock does not fulfil pyproject.toml; run 'make lock'" >&2; exit 1; }

format: $(VENV)/.installed ## Format the code and mend what can be mended without a person
	@$(RUN) ruff check --quiet --fix-only .
	@$(RUN) ruff format --quiet .

bench: $(VENV)/.installed ## Measure against the floors of this machine
	@$(RUN) benchmarks $(ARGS)

lock: $(VENV)/.locked ## Write requirements.lock from pyproject.toml (newest versions: ARGS=--upgrade)
	@$(VENV)/bin/uv pip compile pyproject.toml --quiet --universal --python-version 3.11 --all-extras --group dev \
	  --generate-hashes --no-emit-index-url --no-emit-find-links --no-annotate \
	  --custom-compile-command "make lock" --output-file requirements.lock $(ARGS)

generate: $(VENV)/.installed ## Write the synchronous client from the asynchronous one
	@$(VENV)/bin/python scripts/generate_sync.py

clean: ## Remove the environment and everything else that can be made again
	@rm -rf $(VENV) dist .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	@find $(wildcard $(SOURCES)) -name __pycache__ -type d -prune -exec rm -rf {} +

# A new lock gets a new environment, so that nothing stays that the lock no longer names.
$(VENV)/.locked: requirements.lock
	@command -v "$(PYTHON)" >/dev/null || { echo "error: '$(PYTHON)' not found: install Python 3.11 or newer" \
	  "(Debian: apt-get install python3 python3-venv) or name one: make PYTHON=..." >&2; exit 1; }
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "error: '$(PYTHON)' is" \
	  "$$("$(PYTHON)" --version 2>&1), and 3.11 or newer is needed" \
	  "(Debian: apt-get install python3 python3-venv); name another: make PYTHON=..." >&2; exit 1; }
	@"$(PYTHON)" -c 'import venv, ensurepip' 2>/dev/null || { echo "error: '$(PYTHON)' cannot make" \
	  "environments: install its venv (Debian: apt-get install python3 python3-venv)" >&2; exit 1; }
	@echo "Setting up $(VENV) (under a minute) ..."
	@"$(PYTHON)" -m venv --clear $(VENV)
	@$(PIP) --require-hashes -r requirements.lock
	@touch $@

# hatchling comes from the lock too: nothing is fetched here.
$(VENV)/.installed: $(VENV)/.locked pyproject.toml
	@$(PIP) --no-deps --no-build-isolation --editable .
	@touch $@
