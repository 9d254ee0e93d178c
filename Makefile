# What a person does with a checkout. Needs Python 3.11, make and git; everything else goes into .venv.
SHELL := /bin/bash
.DEFAULT_GOAL := help
.PHONY: help demo test test-slow bench bench-db lint clean .venv

BIN := .venv/bin
MADE := .venv/made
BROWSER := .venv/browser
IS_311 := -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))'
# Tests start hundreds of children, and each would compile all it imports again: two thirds of the time that a start takes.
unexport PYTHONDONTWRITEBYTECODE
LINT := $(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy && $(BIN)/lint-imports

help: ## this list
	@sed -nE 's/^([a-z./-]+):.*## (.*)/\1\t\2/p' $(MAKEFILE_LIST) | sort | awk -F'\t' '{printf "make %-10s %s\n", $$1, $$2}'

demo: $(MADE) ## a small simulated night, end to end; its state and report go into .nightbeam
	NIGHTBEAM_HOME='$(CURDIR)/.nightbeam' $(BIN)/nightbeam demo

test: $(MADE) $(BROWSER) ## lint, and every test but the slow ones
# The linters run beside the tests, which wait for servers and children a part of their time.
	@{ told=$$({ $(LINT); } 2>&1); code=$$?; echo "$$told"; exit $$code; } & lint=$$!; \
	  $(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder; tests=$$?; \
	  wait $$lint || { echo 'the linters found something: it is said above' >&2; exit 1; }; exit $$tests

test-slow: $(MADE) $(BROWSER) ## the slow tests; ONLY=topic for some of them
	$(BIN)/python -m pytest -m slow --timeout 1800 $(if $(ONLY),-k '$(ONLY)')

bench: $(MADE) ## the benchmarks: prints a table and writes bench.json; ONLY=topic,topic for some of them
	$(BIN)/python -m benchmarks

bench-db: $(MADE) ## the databases of a million runs that ONLY=database looks into; RUNS=number for another size
	$(BIN)/python -m benchmarks.db_load --runs $(or $(RUNS),1000000)

docs/rules.md: $(MADE) $(wildcard stem4d/rules/*.py) ## the page of the rules, from their registry
	$(BIN)/nightbeam plan rules > $@

lint: $(MADE) ## ruff, mypy and the import contracts
	@$(LINT)

.venv: $(MADE) ## the environment; every other target makes it when it is missing

clean: ## remove caches, builds and the demo's state; environments stay
	rm -rf .nightbeam .hypothesis .mypy_cache .ruff_cache .import_linter_cache build dist bench.json
	find . -path './.venv*' -prune -o -name __pycache__ -type d -print0 | xargs -0 rm -rf

# --no-compile: Python compiles what is used when it is first used, in a quarter of the time that compiling all takes.
$(MADE): pyproject.toml constraints.txt
	@$(BIN)/python $(IS_311) 2>/dev/null || { \
	  found=; for candidate in $(PYTHON) python3.11 python3 python; do \
	    if "$$candidate" $(IS_311) 2>/dev/null; then found="$$candidate"; break; fi; \
	  done; \
	  [ -n "$$found" ] || { echo 'nightbeam needs Python 3.11 and found none: install it, or name it: make PYTHON=/path/to/python3.11' >&2; exit 1; }; \
	  echo "making .venv with $$found"; "$$found" -m venv --clear .venv; }
	@echo 'installing what constraints.txt names: some two minutes the first time'
	$(BIN)/python -m pip install --no-compile --quiet --disable-pip-version-check -c constraints.txt -e '.[formats,dev]'
	@touch $@

# Debian's Chromium, tried once for each environment; without it the tests in a browser skip, and nothing else does.
$(BROWSER): $(MADE)
	@command -v chromium >/dev/null || if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	  echo 'installing chromium for the tests in a browser'; \
	  { apt-get update -qq && DEBIAN_FRONTEND=noninteractive timeout 900 apt-get install -y -qq --no-install-recommends \
	    -o DPkg::Lock::Timeout=120 chromium; } >$@.log 2>&1 </dev/null || true; fi
	@command -v chromium >/dev/null || echo "no chromium here (it takes root and apt-get; see $@.log where it was tried): the tests in a browser skip"
	@touch $@
