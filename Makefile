# `make help` lists the targets. Each one makes the environment that it needs in .venv; a second run finds it ready.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.PHONY: help demo test check bench browser docs build constraints env clean

export UV_LINK_MODE := copy
# What a caller's shell or virtual environment says must not lead uv away from ours.
unexport VIRTUAL_ENV PYTHONPATH PYTHONHOME

ARGS ?=
WORKERS ?= 2
BIN := .venv/bin
# uv from the machine, else the one that `$(BIN)/python` below installs.
UV = $$(command -v $(BIN)/uv || command -v uv)
FIND_LINKS = $(foreach place,$(PIP_FIND_LINKS),--find-links $(place))
INSTALL = $(UV) pip install --quiet --python $(BIN)/python --constraint constraints.txt $(FIND_LINKS)
# Without CUDA, which is gigabytes. No index has it under this version: it is taken where a folder of PIP_FIND_LINKS has its wheel.
TORCH := torch==2.13.0+cpu
TAG = $(shell $(BIN)/python -c 'import sys; print("cp{}{}".format(*sys.version_info))')
TORCH_WHEEL = $(wildcard $(foreach place,$(PIP_FIND_LINKS),$(place:file://%=%)/$(subst ==,-,$(TORCH))-$(TAG)-*.whl))
MANIFESTS := pyproject.toml integrations/langchain/pyproject.toml integrations/llama-index/pyproject.toml constraints.txt

help: ## this list
	@awk -F ': .*## ' '/^[a-z]+:.* ## / {printf "make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: .venv/.demo ## real local models behind a learned router; ARGS="--tiny" is quicker, ARGS="--full" larger
	@$(BIN)/agentroute demo $(ARGS)

# One BLAS thread a worker: two workers with two threads each on two cores spend their time waiting for one another.
test: export OPENBLAS_NUM_THREADS := 1
test: .venv/.dev browser ## all tests and every example in README, docs and docstrings, with coverage; ARGS="-k name" picks
	@$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile --cov --cov-report term $(ARGS)

# The report is opened in a real browser. Debian and its kin have one; elsewhere install Chromium or Chrome by hand.
browser: ## a headless Chromium for the tests of the report, where there is none and we may install it
	@if ! command -v chromium chromium-browser google-chrome >/dev/null; then \
		if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
			echo "installing chromium"; \
			export DEBIAN_FRONTEND=noninteractive; { apt-get -qq update && apt-get -qq install -y --no-install-recommends chromium; } >/dev/null; \
		else echo "no Chromium: the browser tests will be skipped (install the package chromium)"; fi; fi

check: .venv/.dev ## lint, format, layers, types
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/lint-imports --no-cache
	@$(BIN)/mypy

bench: export OPENBLAS_NUM_THREADS := 1
bench: .venv/.dev ## the figures that the docs quote, measured here
	@for script in $$(find benchmarks -name '*.py' | sort); do echo "== $$script"; $(BIN)/python $$script; done

docs: .venv/.docs ## the documentation, into site/; a broken link is an error
	@$(BIN)/zensical build --clean --strict

build: $(BIN)/python ## the wheels and source archives of all distributions, into dist/
	@$(UV) build --quiet --all-packages --out-dir dist $(FIND_LINKS)
	@ls dist

constraints: $(BIN)/python ## the newest versions that resolve, into constraints.txt: names and versions, no hosts
	@$(UV) pip compile --quiet --universal --python-version 3.11 --upgrade --no-emit-index-url --no-annotate --no-header \
		$(FIND_LINKS) --no-emit-package agentroute-sdk --no-emit-package langchain-agentroute --no-emit-package llama-index-llms-agentroute \
		--extra agents --extra demo --extra jsonschema --extra parquet --extra prices --extra report --extra sklearn --group test --group check --group docs \
		--output-file constraints.txt pyproject.toml integrations/langchain/pyproject.toml integrations/llama-index/pyproject.toml

env: .venv/.dev ## only the environment for developing

clean: ## remove everything that the targets made
	rm -rf .venv dist build site .coverage .coverage.* .pytest_cache .mypy_cache .ruff_cache .hypothesis .benchmarks .import_linter_cache

$(BIN)/python:
	@if uv --version >/dev/null 2>&1; then uv venv --quiet --python '>=3.11' .venv; \
	else python3 -m venv .venv && $(BIN)/python -m pip install --quiet uv; fi

.venv/.demo: $(MANIFESTS) | $(BIN)/python
	@echo "installing what the demo needs into .venv"
	@$(INSTALL) -e '.[demo]' -e 'integrations/langchain[demo]'
	@touch $@

.venv/.dev: $(MANIFESTS) | $(BIN)/python
	@echo "installing the development environment into .venv"
	@$(INSTALL) -e '.[demo,parquet,prices,report,sklearn]' -e 'integrations/langchain[agents,demo]' -e 'integrations/llama-index[demo]' --group test --group check
	@if [ -n "$(TORCH_WHEEL)" ]; then $(INSTALL) $(TORCH); \
	else echo "no $(TORCH) in a folder of PIP_FIND_LINKS: how MasRouterPolicy is trained is not tested here"; fi
	@touch $@

.venv/.docs: $(MANIFESTS) | $(BIN)/python
	@echo "installing the documentation tools into .venv"
	@$(INSTALL) -e . -e integrations/langchain -e integrations/llama-index --group docs
	@touch $@
