# `make demo` and `make test` are all that a newcomer needs: python3 (3.11 or newer) and make must be there, the rest
# is installed into .venv. An environment is made again when pyproject.toml has changed; otherwise nothing is fetched.

PYTHON ?= python3
PORT ?= 8000
ARGS ?=
# Most tests wait for something most of the time, so more of them run than there are processors.
WORKERS ?= 5
ONLY ?=
# The redis-py that suits channels_redis best. To try another: make bench ONLY=redis PEER_REDIS=8.1.0
PEER_REDIS ?= 6.4.0
MATRIX_PYTHON ?=
# What `import channels` meant when it was recorded what Channels does.
PEERS = channels==4.3.2 channels_redis==4.3.0 daphne==4.2.3 redis==6.4.0 asgiref==3.13.0 django~=5.2.0
# The newest major is what `make test` runs on.
REDIS_PY ?= 5.0.1 6.4.0 7.4.1

SHELL := /bin/sh
.DEFAULT_GOAL := help
.PHONY: help demo demo-redis test coverage lint types format bench bench-memory bench-check bench-check-store docs \
	test-benchmarks test-suite test-beside test-matrix test-redis-py test-lowest test-third-party run-matrix surface \
	peers check-peers clean
.DELETE_ON_ERROR:

# Make an empty environment for the target's directory with the interpreter $(1).
define environment
	@$(1) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "Sealane needs Python 3.11 or newer, and '$(1)' is not. Name one: make PYTHON=/path/to/python3.12" >&2; exit 1; }
	@$(1) -c 'import ensurepip, venv' || { \
		echo "'$(1)' cannot make virtual environments. On Debian: apt install python3-venv" >&2; exit 1; }
	@echo "Making $(@D), which takes a minute the first time ..."
	@$(1) -m venv --clear $(@D)
endef

# Tests that stop servers in the middle of traffic, and look how long things take: apart from the others. They wait for
# most of their time.
FAULTS = tests/layers/redis/faults
PARALLEL_FAULTS = --quiet --numprocesses 4 --dist worksteal
# What runs beside the suite says what it has to say at its end, where make can do that.
OUTPUT_WHOLE = $(if $(filter output-sync,$(.FEATURES)),--output-sync=target)
# What has an environment of its own, and what belongs to the benchmarks: targets of their own.
THIRD_PARTY = tests/third_party
BENCHMARKS = tests/benchmarks
PARALLEL_ONLY = --ignore=$(FAULTS) --ignore=$(THIRD_PARTY) --ignore=$(BENCHMARKS)
PARALLEL = --quiet --numprocesses $(WORKERS) --dist worksteal

PIP_INSTALL = @$(@D)/bin/python -m pip install --quiet --disable-pip-version-check

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-17s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: .venv/.made  ## serve the example project on 127.0.0.1:8000 (another port: make demo PORT=8001)
	@cd example_project && ../.venv/bin/python manage.py migrate --verbosity 0
	@echo "The chat: open http://127.0.0.1:$(PORT)/ in two browser windows. Ctrl-C ends it."
	@echo "Pictures, resized by a worker: http://127.0.0.1:$(PORT)/pictures/"
	@cd example_project && exec ../.venv/bin/python manage.py runserver 127.0.0.1:$(PORT) --worker pictures

demo-redis: .venv/.made  ## serve it on two ports, from two processes and a worker with Valkey between them (PORT=8001: that and the next)
	@cd example_project && exec ../.venv/bin/python demo_redis.py --port $(PORT)

# Several workers and some hundred programs that they start import the same modules: one compiles them for all.
test coverage: export PYTHONDONTWRITEBYTECODE =
test: .venv/.made  ## run the whole suite (a part of it: make test ARGS="tests/layers -x")
	$(if $(ARGS),.venv/bin/python -m pytest $(PARALLEL) $(ARGS))
	$(if $(ARGS),,@$(MAKE) --no-print-directory --jobs=2 $(OUTPUT_WHOLE) test-suite test-beside)

# The plus sign is for make to show at once what this says.
test-suite: .venv/.made
	+.venv/bin/python -m pytest $(PARALLEL) $(PARALLEL_ONLY)

# One process: it has time enough, and what looks how long things take is not disturbed by its like.
test-beside: .venv/.made
	.venv/bin/python -m pytest --quiet $(FAULTS)
	@$(MAKE) --no-print-directory test-third-party

# The faults run on uvloop here, and on asyncio's own loop in the other targets.
coverage: .venv/.made  ## run the same with coverage, under which it takes half as long again
	@.venv/bin/coverage erase
	.venv/bin/coverage run -m pytest $(PARALLEL) $(if $(ARGS),$(ARGS),$(PARALLEL_ONLY))
	$(if $(ARGS),,SEALANE_LOOP=uvloop .venv/bin/coverage run -m pytest $(PARALLEL_FAULTS) $(FAULTS))
	@.venv/bin/coverage combine --quiet
	.venv/bin/coverage report $(if $(ARGS),--fail-under=0)

lint: .venv/.made  ## check style, formatting and the direction of imports
	.venv/bin/ruff check
	.venv/bin/ruff format --check
	.venv/bin/lint-imports

types: .venv/.made  ## check types: mypy, strict
	.venv/bin/mypy

format: .venv/.made  ## format the code and repair what ruff can repair
	.venv/bin/ruff check --fix
	.venv/bin/ruff format

bench: .venv-bench/.made .venv-bench-peer-$(PEER_REDIS)/.made  ## compare with Channels and the bare server (some rows: make bench ONLY=redis)
	.venv-bench/bin/python -m benchmarks --peer-python .venv-bench-peer-$(PEER_REDIS)/bin/python \
		$(addprefix --only ,$(ONLY)) $(ARGS)

bench-memory: .venv-bench/.made .venv-bench-peer-$(PEER_REDIS)/.made  ## tell where the memory of 10,000 idle WebSockets goes
	.venv-bench/bin/python -m benchmarks.where --peer-python .venv-bench-peer-$(PEER_REDIS)/bin/python $(ARGS)

bench-check: .venv/.made  ## fail where a main row does over 10 % more work than is stored (some rows: make bench-check ONLY=echo)
	.venv/bin/python -m benchmarks.guard $(addprefix --only ,$(ONLY)) $(ARGS)

test-benchmarks: .venv/.made  ## run each row of the benchmarks once, on tiny sizes, and the tests of the guard
	.venv/bin/python -m pytest $(PARALLEL) $(BENCHMARKS) $(ARGS)

bench-check-store: .venv/.made  ## store the work of the main rows anew, for the Python of .venv
	.venv/bin/python -m benchmarks.guard --write $(addprefix --only ,$(ONLY)) $(ARGS)

docs: .venv-docs/.made  ## build the documentation into docs/_build; a warning is an error
	.venv-docs/bin/python -m sphinx --fail-on-warning --keep-going --quiet -b html docs docs/_build
	@echo "Open docs/_build/index.html"

test-matrix:  ## run the suite on the newest Python of this machine with Django 6.0
	@newest="$(MATRIX_PYTHON)"; [ -n "$$newest" ] || newest="$$($(PYTHON) tests/packaging/newest_python.py)"; \
	if [ -n "$$newest" ]; then $(MAKE) --no-print-directory run-matrix MATRIX_PYTHON="$$newest"; \
	else echo "test-matrix: no Python here is newer than $$($(PYTHON) -V 2>&1), so there is nothing to run"; fi

run-matrix: .venv-matrix/.made
	.venv-matrix/bin/python -m pytest $(PARALLEL) $(if $(ARGS),$(ARGS),$(PARALLEL_ONLY))
	$(if $(ARGS),,.venv-matrix/bin/python -m pytest $(PARALLEL_FAULTS) $(FAULTS))

test-redis-py: .venv-redis-py/.made  ## run the tests of the Redis layers on the older majors of redis-py
	@for version in $(REDIS_PY); do \
		.venv-redis-py/bin/python -m pip install --quiet --disable-pip-version-check "redis[hiredis]==$$version" || exit 1; \
		echo "redis-py $$version"; \
		.venv-redis-py/bin/python -m pytest $(PARALLEL) tests/layers/redis $(ARGS) || exit 1; \
	done

test-lowest: .venv-lowest/.made  ## run the suite on the lowest versions that pyproject.toml allows
	.venv-lowest/bin/python -m pytest $(PARALLEL) $(ARGS)

test-third-party: export SEALANE_REQUIRE_THIRD_PARTY = 1
test-third-party: .venv/.made .venv-third-party/.made  ## run packages that were written for Channels on Sealane
	.venv/bin/python -m pytest --quiet $(THIRD_PARTY) $(ARGS)

surface: .venv/.made  ## write the page that compares the names of Channels with Sealane's
	PYTHONPATH=src .venv/bin/python -m tests.compat.comparison --write

peers: .venv/.made .venv-peers/.made  ## record anew what Channels does, and what Sealane does in its place
	.venv/bin/python -m tests.compat.record .venv-peers/bin/python

check-peers: .venv/.made .venv-peers/.made  ## check that Channels does what is recorded
	.venv/bin/python -m tests.compat.record .venv-peers/bin/python --check

clean:  ## remove the environments and everything that was built
	rm -rf .venv .venv-bench .venv-bench-peer-* .venv-peers .venv-docs .venv-matrix .venv-redis-py .venv-lowest .venv-third-party build dist docs/_build artifacts htmlcov
	rm -rf .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis .coverage .coverage.* src/*.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

.venv/.made: pyproject.toml
	$(call environment,$(PYTHON))
	$(PIP_INSTALL) --editable '.[dev]'
	@touch $@

.venv-bench/.made: pyproject.toml
	$(call environment,$(PYTHON))
	$(PIP_INSTALL) --editable '.[bench]'
	@touch $@

.venv-bench-peer-$(PEER_REDIS)/.made: pyproject.toml
	$(call environment,$(PYTHON))
	$(PIP_INSTALL) --editable '.[bench]' 'redis==$(PEER_REDIS)'
	@touch $@

.venv-peers/.made: Makefile
	$(call environment,$(PYTHON))
	$(PIP_INSTALL) $(PEERS)
	@touch $@

.venv-docs/.made: pyproject.toml
	$(call environment,$(PYTHON))
	$(PIP_INSTALL) --editable '.[docs]'
	@touch $@

.venv-matrix/.made: pyproject.toml
	$(call environment,$(MATRIX_PYTHON))
	$(PIP_INSTALL) --editable '.[test]' 'django~=6.0.0'
	@touch $@

.venv-redis-py/.made: pyproject.toml
	$(call environment,$(PYTHON))
	$(PIP_INSTALL) --editable '.[test]'
	@touch $@

.venv-third-party/.made: pyproject.toml $(wildcard tests/third_party/requirements*.txt)
	$(call environment,$(PYTHON))
	$(PIP_INSTALL) --editable '.[redis,server]' --requirement $(THIRD_PARTY)/requirements.txt
	$(PIP_INSTALL) --no-deps --requirement $(THIRD_PARTY)/requirements-no-deps.txt
	$(PIP_INSTALL) --no-deps --target $(@D)/channels --requirement $(THIRD_PARTY)/requirements-channels.txt
	@touch $@

.venv-lowest/.made: pyproject.toml tests/packaging/lowest.py
	$(call environment,$(PYTHON))
	@$(PYTHON) tests/packaging/lowest.py > $(@D)/constraints.txt
	$(PIP_INSTALL) --editable '.[redis,test]' --constraint $(@D)/constraints.txt
	@touch $@
