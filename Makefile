# Every target sets itself up: all it needs is Python 3.11 or newer and a package index.
# Written for GNU make 3.81 and later (macOS ships 3.81).

# The first of these that works and is new enough makes .venv; `make PYTHON=/my/python test` picks another.
PYTHON ?= python3.14 python3.13 python3.12 python3.11 python3

VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip
MADE := $(VENV)/.made

# A PostgreSQL of the system, which may be newer than the embedded ones, or another build: the tests of what is read from
# catalogs and made anew are repeated on it. `make SYSTEM_PG= test` leaves that out, `make SYSTEM_PG=/my/bin test` takes another.
SYSTEM_PG ?= $(lastword $(wildcard $(patsubst %,/usr/lib/postgresql/%/bin,15 16 17 18)))

# What `.[dev]` is made of, by hash: of every Python from 3.11 on, and every platform. `make LOCK= test` takes the newest instead.
LOCK ?= requirements-dev.txt
TOOLS := $(VENV)/tools
LOWEST := $(VENV)/lowest
AUDIT_FLAGS ?=
AUDIT = $(TOOLS)/bin/pip-audit --progress-spinner off --disable-pip $(AUDIT_FLAGS)

export PIP_ROOT_USER_ACTION := ignore
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.NOTPARALLEL:
.PHONY: help demo test test-faults test-mutation test-soak test-matrix test-lowest lint format bench man lock audit clean moved

help:
	@echo 'make demo    two throw-away servers, a table copied between them, the result checked'
	@echo 'make test    every check: ruff, mypy, lint-imports, pytest with branch coverage'
	@echo 'make test-faults  let every operation of a run fail, one after the other, in every way, and every link break: three quarters of an hour'
	@echo 'make test-mutation  take out what keeps each promise, and see a test notice: under ten minutes'
	@echo 'make test-soak  kill runs, sessions and servers at random while others write: ten minutes'
	@echo 'make test-matrix  fetch every supported version, and copy every type between every two of them: a quarter of an hour'
	@echo 'make test-lowest  some of the tests, with the oldest versions of everything that pyproject.toml lets in: five minutes'
	@echo 'make lint    the checks without the tests'
	@echo 'make format  put the code in form'
	@echo 'make bench   measure the relay, and whole runs beside other tools: half an hour'
	@echo 'make man     write the manual page to build/man, from what the commands say of themselves'
	@echo 'make lock    write requirements-dev.txt anew: the newest versions that pyproject.toml lets in, by hash'
	@echo 'make audit   look up known holes of these versions, and of the oldest that are let in'
	@echo 'make clean   remove .venv, caches and what was built'

demo: $(VENV)/.demo
	$(BIN)/pgsluice demo

test: lint
	$(BIN)/python -m pytest --numprocesses auto --dist loadfile --cov --cov-report=term-missing:skip-covered
	$(if $(SYSTEM_PG),PGSLUICE_TARGET_BINARIES=$(SYSTEM_PG) $(BIN)/python -m pytest --numprocesses auto --dist loadfile \
	    tests/integration/test_swap.py tests/integration/test_promotion.py tests/integration/test_creation.py)

test-faults: $(VENV)/.dev
	$(BIN)/python -m pytest -m sweep --numprocesses auto --dist worksteal tests/faults

test-mutation: $(VENV)/.dev
	$(BIN)/python tests/mutations.py

test-soak: $(VENV)/.dev
	$(BIN)/python -m pytest -m soak -s tests/faults/test_soak.py

test-matrix: $(VENV)/.dev
	$(BIN)/python tests/majors.py
	PGSLUICE_WRITE_FIDELITY=1 $(BIN)/python -m pytest -m matrix --numprocesses auto --dist worksteal tests/matrix
	PGSLUICE_EXAMPLES=200 $(BIN)/python -m pytest --timeout 900 tests/integration/test_fidelity_property.py

test-lowest: $(TOOLS)/.made
	$(TOOLS)/bin/uv venv --quiet --clear --python $(BIN)/python $(LOWEST)
	$(TOOLS)/bin/uv pip install --quiet --python $(LOWEST)/bin/python --resolution lowest-direct --editable '.[dev]'
	$(LOWEST)/bin/python -m pytest tests/unit tests/acceptance/test_configuration.py tests/acceptance/test_first_run.py \
	    tests/acceptance/test_report.py tests/acceptance/test_serve.py tests/integration/test_dask.py \
	    tests/integration/test_metrics.py tests/integration/test_opentelemetry.py

lint: $(VENV)/.dev
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo

format: $(VENV)/.dev
	$(BIN)/ruff check --fix-only
	$(BIN)/ruff format

bench: $(VENV)/.benchmarks
	$(BIN)/python benchmarks/relay.py
	$(BIN)/python benchmarks/peers.py

man: $(VENV)/.dev
	$(BIN)/python contrib/manpage.py build/man

lock: $(TOOLS)/.made
	$(TOOLS)/bin/uv pip compile --quiet --upgrade --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
	    --custom-compile-command 'make lock' --extra dev --output-file requirements-dev.txt pyproject.toml

# A version that is known to have holes goes first: an index that knows of none there knows of none anywhere.
audit: $(TOOLS)/.made
	@echo 'jinja2==2.11.2' >$(TOOLS)/known.txt
	@$(AUDIT) --no-deps --requirement $(TOOLS)/known.txt 2>/dev/null | grep -q jinja2.*PYSEC || { \
	    echo 'Nothing was checked: no index of advisories can be reached from here.' >&2; \
	    echo 'make AUDIT_FLAGS="--vulnerability-service osv" audit asks osv.dev instead.' >&2; exit 1; }
	$(AUDIT) --strict --require-hashes --requirement requirements-dev.txt
	$(TOOLS)/bin/uv pip compile --quiet --resolution lowest-direct --python-version 3.11 --no-header \
	    --all-extras --output-file $(TOOLS)/lowest.txt pyproject.toml
	$(AUDIT) --strict --no-deps --requirement $(TOOLS)/lowest.txt

clean:
	rm -rf $(VENV) build dist .coverage .coverage.* htmlcov
	rm -rf .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# --- the environment: a stamp for it, and one for each set of packages in it ---

# `dev` holds all of `demo`, so the one install stamps both.
$(VENV)/.dev: $(MADE) pyproject.toml $(LOCK)
	$(if $(LOCK),$(PIP) install --quiet --require-hashes --requirement $(LOCK))
	$(PIP) install --quiet --editable '.[dev]' $(if $(LOCK),--no-build-isolation)
	@touch $(VENV)/.demo $@

$(VENV)/.demo: $(MADE) pyproject.toml
	$(PIP) install --quiet --editable '.[demo]'
	@touch $@

$(VENV)/.benchmarks: $(MADE) pyproject.toml
	$(PIP) install --quiet --editable '.[benchmarks]'
	@touch $@

# Apart from the rest, whose versions they would have a say in.
$(TOOLS)/.made: $(MADE)
	$(BIN)/python -m venv $(TOOLS)
	$(TOOLS)/bin/python -m pip install --quiet uv pip-audit
	@touch $@

# A venv knows its own path: one that came along when the tree was copied or moved works on the old tree.
# The stamp holds the path it was made for; where that is not here, or its Python is gone, it is made anew.
ifneq ($(shell $(BIN)/python -c '' 2>/dev/null && cat $(MADE) 2>/dev/null),$(CURDIR))
$(MADE): moved
endif

$(MADE):
	@rm -rf $(VENV); \
	for python in $(PYTHON); do \
	    if "$$python" -c 'import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; then \
	        echo "making $(VENV) with $$python"; \
	        "$$python" -m venv $(VENV) && echo '$(CURDIR)' >$@ && exit 0; \
	        rm -rf $(VENV); exit 1; \
	    fi; \
	done; \
	echo 'pgsluice needs Python 3.11 or newer with its venv module; none of these is one: $(PYTHON)' >&2; \
	echo 'Name yours with PYTHON=/path/to/python (Debian and Ubuntu: apt-get install python3-venv).' >&2; \
	exit 1
