# Everything starts here. Only Python 3.11 or newer, make and a package index are needed:
# each target makes .venv itself and installs what the lock files name, checked by hash.
# Another interpreter: make serve PYTHON=python3.13

PYTHON ?= python3
COVERAGE_MIN ?= 90
TEST_WORKERS ?= 4
FUZZ_EXAMPLES ?= 12
FUZZ_SECONDS ?= 10

VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet --quiet
RUN := $(VENV)/.run-installed
DEV := $(VENV)/.dev-installed

# Where it is set, each of the hundreds of processes of a test run would compile anew what it imports.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help serve demo test coverage test-faults test-fuzz test-model lint format typecheck audit sbom docs bench lock clean

help:  ## Show this list
	@sed -nE 's/^([a-z-]+):.*## (.*)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 20

serve: $(RUN)  ## Run the gateway in the foreground (settings: MSGCORE_* variables)
	@exec $(BIN)/msgcore serve

demo: $(RUN)  ## Show the whole way of a message on a throw-away gateway
	@exec $(BIN)/msgcore demo

test: $(DEV)  ## Run all tests
	$(BIN)/pytest -n $(TEST_WORKERS) --dist loadfile --no-loadscope-reorder

coverage: $(DEV)  ## Run all tests, and tell which lines of src none of them runs (slower)
	$(BIN)/pytest -n $(TEST_WORKERS) --dist loadfile --no-loadscope-reorder --cov --cov-report=term:skip-covered --cov-fail-under=$(COVERAGE_MIN)

test-faults: $(DEV)  ## The long fault runs: kill -9 of all and of workers, Redis emptied, the database away, messages flowing
	MSGCORE_FAULT_KILLS=20 MSGCORE_FAULT_MESSAGES=2000 \
	MSGCORE_FAULT_WORKER_KILLS=10 MSGCORE_FAULT_WORKER_MESSAGES=20000 \
	MSGCORE_FAULT_INBOUND=5000 MSGCORE_FAULT_AWAY_SECONDS=30 MSGCORE_FAULT_TAKEOVERS=5 MSGCORE_FAULT_LIVE_KILLS=10 \
	MSGCORE_FAULT_FALLBACKS=3000 MSGCORE_FAULT_LANE_MESSAGES=1000 MSGCORE_FAULT_KEY_PLATFORMS=10000 $(BIN)/pytest --timeout 3600 tests/faults

test-fuzz: $(DEV)  ## The long fuzz runs: every parser of what comes from outside; requests made from the OpenAPI document
	PYTHONPATH=tests MSGCORE_FUZZ_SECONDS=$(FUZZ_SECONDS) $(BIN)/python -m fuzz
	MSGCORE_FUZZ_EXAMPLES=$(FUZZ_EXAMPLES) $(BIN)/pytest -s --timeout 3600 tests/e2e/test_openapi_fuzz.py

lint: $(DEV)  ## Check style, formatting, types and the direction of imports
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/basedpyright
	$(BIN)/lint-imports

format: $(DEV)  ## Format the code and mend what can be mended automatically
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

typecheck: $(DEV)  ## Check types only
	$(BIN)/basedpyright

audit: $(DEV)  ## Look for known vulnerabilities in what the lock files name (says so where nobody can be asked)
	$(BIN)/python -m supply.audit requirements.lock requirements-dev.lock $(if $(OSV_URL),--osv-url $(OSV_URL))

sbom: $(DEV)  ## Write dist/sbom.json: what is installed, with versions, hashes and licences (CycloneDX)
	$(BIN)/python -m supply.sbom dist/sbom.json

docs: $(DEV)  ## Write the parts of the documentation that platforms declare
	$(BIN)/msgcore platforms docs

bench: $(DEV)  ## Measure the accept rate and the delivery rate on this machine
	$(BIN)/python -m bench

lock: $(DEV)  ## Write the lock files anew, with the newest versions that pyproject.toml allows
	$(LOCK) pyproject.toml --output-file requirements.lock
	$(LOCK) pyproject.toml --group dev --constraint requirements.lock --output-file requirements-dev.lock
	$(LOCK) --group build --constraint requirements-dev.lock --output-file requirements-build.lock
	$(LOCK) --group synapse --output-file requirements-synapse.lock

# pip is left out: each environment has its own, and does not replace it while it runs
LOCK = $(BIN)/uv pip compile --quiet --upgrade --universal --python-version 3.11 --generate-hashes \
	--no-header --no-annotate --no-emit-index-url --no-emit-find-links --no-emit-package pip

clean:  ## Remove what the targets made (never the gateway's data)
	rm -rf $(VENV) .pytest_cache .ruff_cache .hypothesis .import_linter_cache .coverage .coverage.* coverage.xml dist

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and \
		"MsgCore needs Python 3.11 or newer, and $(PYTHON) is " + sys.version.split()[0] + \
		"; say which to use: make $(MAKECMDGOALS) PYTHON=python3.13")'
	@echo "making $(VENV)"
	@$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); \
		echo "this Python cannot make a virtual environment; on Debian and Ubuntu: apt install python3-venv" >&2; exit 1; }

$(RUN): requirements.lock requirements-build.lock pyproject.toml | $(BIN)/python
	@echo "installing what MsgCore needs (once; takes about half a minute)"
	@$(PIP) --require-hashes --no-deps -r requirements.lock -r requirements-build.lock
	@$(PIP) --no-deps --no-build-isolation --editable .
	@touch $@

$(DEV): requirements-dev.lock pyproject.toml | $(BIN)/python
	@echo "installing what development needs"
	@$(PIP) --require-hashes --no-deps -r requirements-dev.lock
	@$(PIP) --no-deps --no-build-isolation --editable .
	@touch $@
