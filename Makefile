# `make help` lists the targets. Each sets up what it needs; a target that has nothing to set up loses no time.
SHELL := /bin/bash
.DEFAULT_GOAL := help
.ONESHELL:
.SHELLFLAGS := -euo pipefail -c

PYTHON ?= python3
ONCE ?=
ARGS ?=
PY := .venv/bin/python
LOCK := .venv/bin/uv pip compile --quiet --generate-hashes --python-version 3.11 --universal --custom-compile-command "make lock" pyproject.toml

export PYTHON
# Where the environment forbids bytecode, as in many containers, each of the hundreds of processes of a test run compiled every module anew.
export PYTHONDONTWRITEBYTECODE =

# `exec` leaves one process between make and the program: a Ctrl-C reaches it once.

.PHONY: help
help:  ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: setup
setup:  ## Make .venv and .venv-host from the locked requirements (PYTHON=... names the interpreter)
	@exec devstack/bootstrap.sh

.PHONY: demo
demo: setup  ## From nothing to a verified, paid result; stays up until Ctrl-C (ONCE=1: stops and checks)
	@exec $(PY) -m devstack demo $(if $(filter-out 0,$(ONCE)),--once) $(ARGS)

.PHONY: compose-demo
compose-demo: setup  ## compose.yaml as an operator uses it: images, portal, hosts in containers, a job; each service killed; lost and restored
	@exec $(PY) -m devstack compose-demo $(ARGS)

.PHONY: bill
bill: setup  ## What the images are made of, a CycloneDX document each, below var/bills (ARGS="IMAGE…")
	@exec $(PY) -m devstack.bill $(ARGS)

.PHONY: up
up: setup  ## Start the stack in the background, without a job or hosts; writes var/dev.env and var/manage.env
	@exec $(PY) -m devstack up $(ARGS)

.PHONY: down
down: setup  ## Stop what `make up` started
	@exec $(PY) -m devstack down $(ARGS)

.PHONY: test
test: setup  ## Run the whole suite, containers included (ARGS="-k ledger" narrows it)
	@$(PY) -m devstack.packages
	$(PY) -m devstack.engine
	status=0
	$(PY) -m pytest -n 3 --dist loadgroup $(ARGS) || status=$$?
	[ $$status = 1 ] || exit $$status
	echo "make test: what failed beside other work is run once more, alone; what fails twice fails"
	exec $(PY) -m pytest --last-failed --last-failed-no-failures none $(ARGS)

.PHONY: coverage
coverage: setup  ## The suite, slower, with the coverage of every process: the total and the least covered files (ARGS as for test)
	@$(PY) -m devstack.packages
	$(PY) -m devstack.engine
	exec $(PY) -m devstack.suite_coverage -n 3 --dist loadgroup $(ARGS)

.PHONY: bench
bench: setup  ## Measure what has to be fast or small, as a table and in var/bench.json, on an idle machine (ARGS="--only 'Life cycle'")
	@$(PY) -m devstack.engine
	exec $(PY) -m benchmarks $(ARGS)

.PHONY: soak
soak: setup  ## 500 containers on two hosts, something killed every few seconds (ARGS="--jobs 100 --seed 7")
	@$(PY) -m devstack.engine
	exec $(PY) -m benchmarks.soak $(ARGS)

.PHONY: fuzz
fuzz: setup  ## Fuzz the parsers that read strangers' bytes (ARGS="--minutes 60 --only compare"); keeps what broke in var/fuzz
	@source devstack/checks.env
	exec $(PY) -m tests.fuzz $(ARGS)

.PHONY: screenshots
screenshots: setup  ## Save every page of the portal to var/screenshots: light and dark, 360 and 1280 px
	@$(PY) -m devstack.packages
	exec $(PY) -m tests.browser shoot $(ARGS)

.PHONY: lint
lint: setup  ## ruff, format check, import-linter, bandit
	@.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/lint-imports
	exec .venv/bin/bandit --quiet --recursive --configfile pyproject.toml .

.PHONY: types
types: setup  ## mypy, strict
	@source devstack/checks.env
	exec .venv/bin/mypy .

.PHONY: format
format: setup  ## Format the code, and repair what ruff can
	@.venv/bin/ruff check --fix .
	exec .venv/bin/ruff format .

.PHONY: lock
lock: setup  ## Resolve the three lock files anew from pyproject.toml (ARGS="--upgrade" for newer versions)
	@$(LOCK) $(ARGS) -o workers/requirements.txt
	$(LOCK) $(ARGS) --extra server -o requirements.txt
	$(LOCK) $(ARGS) --extra server --extra dev -o requirements-dev.txt

.PHONY: clean
clean:  ## Remove environments and caches (data under var/ and /var/lib/nexapod stays)
	@rm -rf .venv .venv-host .venv.lock .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
