# `make` lists what there is. Written for GNU make 3.81, which macOS has.
# Without make: scripts/bootstrap, then the commands below with .venv/bin before them.

ARGS =
N = auto
BIN = .venv/bin
PYTEST = $(BIN)/python -m pytest
TESTS = $(PYTEST) -n $(N) --dist worksteal
# What differs from one PostgreSQL to another, or behind a pooler.
DATABASE = -m "database and not programs"
POOLED = -m "database and not programs or pooled_programs"
LOCK = $(BIN)/uv --quiet pip compile --universal --python-version 3.11 \
	--generate-hashes --no-header --no-annotate --only-binary :all: --upgrade
NPM = npm --prefix examples/web-app
POSTGRES15 = /usr/lib/postgresql/15/bin
PGBOUNCER = $(shell command -v pgbouncer || echo /usr/sbin/pgbouncer)

# $(call step,NAME,COMMAND,REMEDY): one line for a step, and what to run where it fails.
step = @echo "== $(1)"; $(2) || { echo "$(1) failed. $(3)." >&2; exit 1; }

.DEFAULT_GOAL := help
.PHONY: help demo test check check-all static format lint types contracts migrations docs lock clean \
	test-postgres15 test-pgbouncer test-node chaos mutants bench environment

help: ## list these targets
	@echo "make TARGET [ARGS='...'] [N=processes for the tests, 0 for none; by default as suits the machine]"
	@sed -n 's/^\([a-z0-9-]*\):[^#]*## \(.*\)/  \1|\2/p' Makefile | awk -F'|' '{printf "%-18s %s\n", $$1, $$2}'

demo: environment ## run the demo: servers, workers and a simulated fleet; only its logs are left behind
	@$(BIN)/crawlyard demo $(ARGS)

test: environment ## run the tests, each in its short form, without the longest; ARGS goes to pytest
	@$(TESTS) -m "not gate" $(ARGS)

check: static ## everything that must pass: format, lint, types, contracts, all tests in their short form
	$(call step,tests,$(TESTS) -q --no-header $(ARGS),make test ARGS='--last-failed' runs what failed)
	@echo "All is well."

check-all: static ## the same with every test in full: real durations, stated sizes; then chaos
	$(call step,tests in full,CRAWLYARD_TEST_DEPTH=full $(TESTS) -q --no-header $(ARGS),Say CRAWLYARD_TEST_DEPTH=full make test ARGS='--last-failed' to run what failed)
	$(call step,chaos,PYTHONPATH=tests $(BIN)/python -m proofs.chaos,make chaos ARGS='--seed ...' repeats it)
	@echo "All is well."

static: environment
	$(call step,format,$(BIN)/ruff format --quiet --check .,make format mends it)
	$(call step,lint,$(BIN)/ruff check --quiet .,$(BIN)/ruff check --fix . mends some of it)
	$(call step,types,$(BIN)/mypy --no-error-summary,make types shows it again)
	$(call step,contracts,$(BIN)/lint-imports --no-logo >.venv/contracts.log || { cat .venv/contracts.log; false; },make contracts shows it again)

format: environment ## format the code
	@$(BIN)/ruff format .

lint: environment ## lint the code
	@$(BIN)/ruff check .

types: environment ## check the types
	@$(BIN)/mypy

contracts: environment ## check which package may import which
	@$(BIN)/lint-imports

migrations: environment ## check that migrations and models agree
	@$(PYTEST) tests/db/test_migrations.py

test-postgres15: environment ## run what touches the database on PostgreSQL 15, where it is installed; all: ARGS='-m ""'
	@test -x $(POSTGRES15)/postgres || { \
		echo "There is no $(POSTGRES15)/postgres: install it (Debian 12: apt-get install postgresql-15)," \
			"or say make test-postgres15 POSTGRES15=/path/to/its/bin" >&2; exit 2; }
	@CRAWLYARD_TEST_POSTGRES_BIN=$(POSTGRES15) $(TESTS) $(DATABASE) $(ARGS)

test-pgbouncer: environment ## run the same through PgBouncer in transaction mode, where it is installed
	@test -x $(PGBOUNCER) || { \
		echo "There is no $(PGBOUNCER): install it (Debian: apt-get install pgbouncer)," \
			"or say make test-pgbouncer PGBOUNCER=/path/to/it" >&2; exit 2; }
	@CRAWLYARD_TEST_PGBOUNCER=$(PGBOUNCER) $(TESTS) $(POOLED) $(ARGS)

test-node: environment ## check and run the web app of examples/web-app; needs Node 20 or later, and npm
	@command -v npm >/dev/null || { echo "There is no npm here: install Node 20 or later." >&2; exit 2; }
	$(call step,packages,$(NPM) ci --silent,See what npm says above)
	$(call step,types,$(NPM) run --silent check,npm --prefix examples/web-app run types writes src/contract.ts anew)
	$(call step,build,$(NPM) run --silent build,See what tsc says above)
	$(call step,tests,$(PYTEST) -q --no-header -n 0 tests/node $(ARGS),make test-node ARGS='--last-failed' runs what failed)

docs: environment ## write docs/settings.md from the settings
	@$(BIN)/python scripts/settings_page.py >docs/settings.md

lock: environment ## renew requirements/*.txt with the newest versions that pyproject.toml allows
	@$(LOCK) --output-file requirements/runtime.txt pyproject.toml
	@$(LOCK) --output-file requirements/dev.txt pyproject.toml --extra embedded --extra uvloop --group dev \
		--constraint requirements/runtime.txt
	@$(LOCK) --output-file requirements/bench.txt --group pyproject.toml:bench --constraint requirements/dev.txt

chaos: environment ## break everything around a simulated fleet; ARGS='--seed 7 --minutes 5'
	@PYTHONPATH=tests $(BIN)/python -m proofs.chaos $(ARGS)

mutants: environment ## take one guard away at a time: a test must fail; ARGS='--only fence', '--list', '-n 4'
	@PYTHONPATH=tests $(BIN)/python -m proofs.mutants $(ARGS)

ONLY =
bench: ## measure whole lives of jobs beside bare SQL and what people would otherwise use; ARGS='--json FILE', ONLY=life
	@scripts/bootstrap bench
	@$(BIN)/python -m benchmarks $(addprefix --only ,$(ONLY)) $(ARGS)

clean: ## remove the environment and every cache
	@rm -rf examples/web-app/node_modules examples/web-app/dist
	@rm -rf .venv build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis .coverage*
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

environment:
	@scripts/bootstrap
